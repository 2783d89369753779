"""SIGTERM to a run in this process: it ends with Preempted, and goes on to the same bits.

In processes of their own, and in more phases: test_processes_stop.py.
"""

import os
import signal

import numpy as np
import pytest

from sadist_jax.errors import Preempted
from sadist_jax.train import begin, pulse
from sadist_jax.train.checkpoint import Checkpoints, CheckpointSpec
from sadist_jax.train.log import Log
from sadist_jax.train.loop import train
from sadist_jax.train.run import Evaluation
from tests.train.test_loop import last_state, lines, run_in
from tests.train.toy import PointSource, assert_same_bits

ASKED_AT = {"eval": 0}  # how many evals are still to be interrupted


def ask():
    os.kill(os.getpid(), signal.SIGTERM)


def look(method, params, frozen, extra):
    """Interrupted in its middle when the test says so."""
    pulse.beat()
    if ASKED_AT["eval"]:
        ASKED_AT["eval"] -= 1
        ask()
    pulse.beat()
    return {"far": abs(np.abs(params["student"]["head"]["kernel"]).sum() - 0.54)}  # least after step 6


def run_with_evals(directory):
    """Looked at and saved at 3, 6, 9 and 12; the last and the best stay."""
    spec = CheckpointSpec(every=3, keep=1, best="look/far", best_is="min")
    return run_in(directory, evals=(Evaluation("look", 3, look),), checkpoint=spec)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    run = run_with_evals(tmp_path_factory.mktemp("unbroken") / "toy")
    train(run)
    return run


def kept(run):
    return {path.name for path in (run.directory / "checkpoints").glob("*")}


def assert_the_same(run, unbroken):
    assert_same_bits(last_state(run), last_state(unbroken))
    for name in ("metrics.jsonl", "samples.jsonl"):
        assert lines(run, name) == lines(unbroken, name)
    for name in ("params.safetensors", "average.safetensors"):
        assert (run.directory / name).read_bytes() == (unbroken.directory / name).read_bytes()
    assert kept(run) == kept(unbroken)
    assert not (run.directory / "running.json").exists()


def at_samples_of(step):
    """Asked when the batch of a step has come."""
    samples = Log.samples

    def hooked(log, number, index):
        samples(log, number, index)
        if number == step:
            ask()

    return Log, "samples", hooked


def test_the_best_is_not_the_last(unbroken):
    """Or what follows would not show that the best checkpoint is kept."""
    assert len(kept(unbroken)) == 2


def test_a_step_is_finished_and_saved(unbroken, tmp_path, monkeypatch):
    step, run = 5, run_with_evals(tmp_path / "toy")
    with monkeypatch.context() as patch:
        patch.setattr(*at_samples_of(step))
        with pytest.raises(Preempted, match=rf"SIGTERM. after step {step}, which is saved in .*toy; to go on: "):
            train(run)
    assert int(last_state(run).step) == len(lines(run, "samples.jsonl")) == step
    train(run)
    assert_the_same(run, unbroken)


def test_evals_that_are_cut_short_are_owed(unbroken, tmp_path, monkeypatch):
    """At step 3, and again when they are made up for; the best checkpoint is known all the same."""
    run = run_with_evals(tmp_path / "toy")
    monkeypatch.setitem(ASKED_AT, "eval", 2)
    for _ in range(2):
        with pytest.raises(Preempted, match="after step 3"):
            train(run)
        assert [record["step"] for record in lines(run)] == [3]
        assert "look/far" not in lines(run)[0]
    train(run)
    assert_the_same(run, unbroken)


def test_owed_evals_are_logged_once_though_killed_before_they_are_saved(unbroken, tmp_path, monkeypatch):
    run = run_with_evals(tmp_path / "toy")
    monkeypatch.setitem(ASKED_AT, "eval", 1)
    with pytest.raises(Preempted, match="after step 3"):
        train(run)
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            train(run)
    assert "look/far" in lines(run)[-1]
    train(run)
    assert_the_same(run, unbroken)


def killed(*_):
    raise KeyboardInterrupt


def test_evals_of_the_last_step_are_owed_too(unbroken, tmp_path, monkeypatch):
    run = run_with_evals(tmp_path / "toy")
    with monkeypatch.context() as patch:
        patch.setattr(*at_samples_of(12))
        with pytest.raises(Preempted, match="after step 12"):
            train(run)
    assert not (run.directory / "params.safetensors").exists()
    train(run)
    assert_the_same(run, unbroken)


def test_asked_before_the_first_step_it_leaves_no_step(unbroken, tmp_path, monkeypatch):
    run, opened = run_with_evals(tmp_path / "toy"), PointSource.open
    with monkeypatch.context() as patch:
        patch.setattr(PointSource, "open", lambda source: ask() or opened(source))
        with pytest.raises(Preempted, match="before its next step; nothing is lost"):
            train(run)
    assert not run.directory.exists()
    created = begin._first_state
    with monkeypatch.context() as patch:
        patch.setattr(begin, "_first_state", lambda *args: ask() or created(*args))
        with pytest.raises(Preempted, match="before its next step"):
            train(run)
    assert {path.name for path in run.directory.iterdir()} == {"config.json", "checkpoints"}
    assert kept(run) == set()
    train(run)
    assert_the_same(run, unbroken)
