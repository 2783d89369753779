"""Numbers that go wrong, from the step to the end of the run."""

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest

from sadist_jax.data import order
from sadist_jax.errors import BadInput
from sadist_jax.train import spike
from sadist_jax.train.checkpoint import CheckpointSpec
from sadist_jax.train.health import DUMP
from sadist_jax.train.log import LogSpec
from sadist_jax.train.loop import train
from sadist_jax.train.optim import Optim
from sadist_jax.train.run import Evaluation
from tests.train.test_loop import Stopped, last_state, lines, run_in, stop
from tests.train.test_step import make, rows, run
from tests.train.toy import Toy, assert_same_bits

OPTIM = Optim(lr=3e-2, schedule="constant", clip_norm=1.0)
FAR = 0.07  # the embedding is there after 3 steps of OPTIM, and after 14 with half the rate from the third on


@dataclasses.dataclass(frozen=True)
class Fragile(Toy):
    """Has no finite loss any more once its embedding has gone too far, as a model that diverges."""

    far: float = FAR

    def loss(self, params, frozen, extra, batch, key, step):
        terms, aux = super().loss(params, frozen, extra, batch, key, step)
        total, weight, coefficient = terms["error"]
        gone = jnp.abs(params["student"]["pos_embed"]).max() > self.far
        return {**terms, "error": (jnp.where(gone, jnp.nan, total), weight, coefficient)}, aux


def fragile(directory, **changes):
    options = {"optim": OPTIM, "steps": 10, "max_skipped": 2, "checkpoint": CheckpointSpec(every=2, keep=3)}
    return run_in(directory, **{"method": Fragile(), "log": LogSpec(every=1, samples=True), **options, **changes})


@pytest.fixture(scope="module")
def rescued(tmp_path_factory):
    run = fragile(tmp_path_factory.mktemp("rescued") / "toy")
    train(run)
    return run


def test_it_goes_back_once_at_half_the_rate(rescued):
    records = lines(rescued)
    assert [record["step"] for record in records] == list(range(1, 11))  # nothing of the failed attempt is left
    assert [record["step"] for record in lines(rescued, "samples.jsonl")] == list(range(1, 11))
    assert [record["lr"] for record in records] == pytest.approx([3e-2] * 2 + [1.5e-2] * 8)
    assert all(record["skipped"] == 0 for record in records)
    assert int(last_state(rescued).step) == 10


def test_what_it_had_seen_is_written_down(rescued):
    dumped = json.loads((rescued.directory / DUMP).read_text())["steps"]
    assert [step["step"] for step in dumped] == [4, 5]
    positions = [sample["position"] for step in dumped for sample in step["samples"]]
    assert positions == list(range(3 * 8, 5 * 8))
    for sample in dumped[1]["samples"]:
        assert sample["index"] == order.sample_index(sample["position"], 64, seed=0, shuffle=True)
        assert sample["name"] == str(sample["index"])


@pytest.mark.parametrize("at", [3, 7])
def test_interrupted_it_ends_with_the_same_bits(rescued, tmp_path, at):
    """Before it goes back, and after: the lower rate is part of the checkpoint."""
    run = fragile(tmp_path / "toy")
    with pytest.raises(Stopped):
        train(dataclasses.replace(run, evals=(Evaluation("stop", at, stop),)))
    train(run)
    assert_same_bits(last_state(run), last_state(rescued))
    assert lines(run) == lines(rescued)
    assert lines(run, "samples.jsonl") == lines(rescued, "samples.jsonl")


def test_the_second_time_it_stops(tmp_path):
    run = fragile(tmp_path / "toy", steps=30)
    for _ in range(2):  # and again, when it is started again
        with pytest.raises(BadInput, match=rf"2 steps in a row, \d+ to \d+, had no finite .* at 0.5 of .*{DUMP}"):
            train(run)
    assert all(np.isfinite(leaf).all() for leaf in last_state(run).params["student"]["head"].values())


def test_a_streak_goes_on_over_a_checkpoint(tmp_path):
    """A run that is killed within a streak counts the same steps as one that is not."""
    run = fragile(tmp_path / "toy", steps=30, max_skipped=4, checkpoint=CheckpointSpec(every=1, keep=9))
    found = []
    for directory, stops in (("whole", ()), ("cut", (5, 6))):
        run = dataclasses.replace(run, out=str(tmp_path / directory))
        for at in stops:
            with pytest.raises(Stopped):
                train(dataclasses.replace(run, evals=(Evaluation("stop", at, stop),)))
        with pytest.raises(BadInput) as caught:
            train(run)
        found.append(str(caught.value).partition("Their")[0])
    assert found[0] == found[1]


def test_a_spike_is_skipped(monkeypatch):
    monkeypatch.setattr(spike, "WARMUP", 4)
    job = make(devices=None, spec=dataclasses.replace(Optim(lr=1e-2), spike=6.0))

    def batches(i):
        batch = rows(i)
        return {**batch, "x": batch["x"] * (1e3 if i == 5 else 1)}

    before, _ = run(job, 5, batches)
    after, metrics = run(job, 6, batches)
    assert metrics["skipped"] == (1, 1)
    assert_same_bits(after.replace(step=before.step), before)
    _, metrics = run(job, 7, batches)
    assert metrics["skipped"] == (0, 1)
    off = make(devices=None, spec=Optim(lr=1e-2))
    assert run(off, 6, batches)[1]["skipped"] == (0, 1)
