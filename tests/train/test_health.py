"""Numbers that go wrong, from the step to the end of the run."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sadist_jax.data import order
from sadist_jax.errors import BadInput
from sadist_jax.parallel import hosts
from sadist_jax.train import spike
from sadist_jax.train.checkpoint import CheckpointSpec
from sadist_jax.train.health import DUMP, Streak
from sadist_jax.train.log import LogSpec
from sadist_jax.train.loop import train
from sadist_jax.train.metrics import Meter
from sadist_jax.train.optim import Optim
from sadist_jax.train.run import Evaluation
from tests.train.test_loop import Stopped, last_state, lines, run_in, stop
from tests.train.test_step import ONE, make, rows
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


def test_interrupted_it_ends_with_the_same_bits(rescued, tmp_path):
    """After it has gone back: the lower rate is part of the checkpoint."""
    run = fragile(tmp_path / "toy")
    with pytest.raises(Stopped):
        train(dataclasses.replace(run, evals=(Evaluation("stop", 7, stop),)))
    train(run)
    assert_same_bits(last_state(run), last_state(rescued))
    assert lines(run) == lines(rescued)
    assert lines(run, "samples.jsonl") == lines(rescued, "samples.jsonl")


def test_a_streak_longer_than_what_is_kept_does_not_cost_the_run(tmp_path):
    """It is of steps 4 to 7; the checkpoints of 4 and 6 are newer than that of 2, to which it has to go back."""
    run = fragile(tmp_path / "toy", max_skipped=4, checkpoint=CheckpointSpec(every=2, keep=1))
    train(run)
    records = lines(run)
    assert [record["step"] for record in records] == list(range(1, 11))
    assert [record["lr"] for record in records] == pytest.approx([3e-2] * 2 + [1.5e-2] * 8)


def test_before_there_is_a_checkpoint_it_goes_back_to_the_start(tmp_path):
    run = fragile(tmp_path / "toy", steps=7, checkpoint=CheckpointSpec(every=6))
    train(run)
    assert [record["lr"] for record in lines(run)] == pytest.approx([1.5e-2] * 7)
    assert int(last_state(run).step) == 7


def test_the_second_time_it_stops(tmp_path):
    run = fragile(tmp_path / "toy", steps=30)
    with pytest.raises(BadInput, match=rf"2 steps in a row, \d+ to \d+, had no finite .* at 0.5 of .*{DUMP}"):
        train(run)
    assert all(np.isfinite(leaf).all() for leaf in last_state(run).params["student"]["head"].values())


def test_a_streak_goes_on_over_a_checkpoint():
    """A run that is killed within a streak counts the same steps as one that is not."""
    bad = {"loss": (jnp.float32(0), jnp.float32(0)), "skipped": (jnp.float32(1), jnp.float32(1))}
    meter = Meter(100, max_skipped=3)
    for step in (4, 5):
        meter.push(step, bad, np.arange(1))
        meter.read()
    meter = Meter(100, json.loads(json.dumps(meter.state())), max_skipped=3)
    meter.push(6, bad, np.arange(1))
    with pytest.raises(Streak, match="3 steps in a row, 4 to 6,"):
        meter.read()


def test_a_spike_is_skipped(monkeypatch):
    """And nothing of it is counted: the next one is judged by the steps before it."""
    monkeypatch.setattr(spike, "WARMUP", 4)
    job = make(devices=ONE, spec=Optim(lr=1e-2, spike=6.0))
    state, frozen, states, skipped = job.create({}), job.create_frozen({}), [], []
    for i in range(7):
        batch = rows(i)
        batch["x"] *= 1e3 if i == 5 else 1
        state, metrics = job.step(state, frozen, hosts.global_batch(batch, job.rows))
        states.append(jax.device_get(state))
        skipped.append(float(metrics["skipped"][0]))
    assert skipped == [0, 0, 0, 0, 0, 1, 0]
    assert_same_bits(states[5].replace(step=states[4].step), states[4])
    assert int(states[6].step) == 7
