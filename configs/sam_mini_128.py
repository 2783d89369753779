"""sam_mini, second of four stages: promptable training at 128 px, a quarter of its own pixels.

Paper: Kirillov et al. 2023, "Segment Anything", app. A (losses, prompts), at a size for CPUs.
Command: sadist train configs/sam_mini_64.py; sadist train configs/sam_mini_128.py
Hardware and number: see sadist_jax/weights/sam_mini.md, the card of the shipped weights. Next: configs/sam_mini_256.py.
"""

import dataclasses

from sam_mini_64 import config as first_stage
from sam_mini_64 import data, method

from sadist_jax.train.run import Run
from sadist_jax.train.start import Start


def config() -> Run:
    first = first_stage()
    return dataclasses.replace(
        first,
        name="sam_mini_128",
        method=method(rounds=2),
        data=data(128, 208, 0.002),
        steps=6000,
        global_batch=16,
        seed=1,
        optim=dataclasses.replace(first.optim, warmup=50),
        starts=(Start(".*", "runs/sam_mini_64"),),
    )
