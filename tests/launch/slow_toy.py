"""Config of the runs that are stopped, cut off and started again: the toy method, a step of about 50 ms."""

import dataclasses
import time

from sadist_jax.train.checkpoint import CheckpointSpec
from sadist_jax.train.log import LogSpec
from sadist_jax.train.optim import Optim
from sadist_jax.train.run import Data
from tests.train.toy import Points, PointSource, Toy, toy_run

STEPS = 100


@dataclasses.dataclass(frozen=True)
class SlowPoints(Points):
    def __call__(self, sample, rng):
        time.sleep(0.012)
        return super().__call__(sample, rng)


def config():
    return toy_run(
        "runs/toy",
        method=Toy(),
        data=Data(PointSource(), SlowPoints()),
        steps=STEPS,
        optim=Optim(lr=3e-2, warmup=10, weight_decay=0.1, clip_norm=1.0, ema=0.99),
        checkpoint=CheckpointSpec(every=10),
        log=LogSpec(every=10, samples=True),
    )
