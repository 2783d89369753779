"""SIGTERM and SIGKILL to SAMI in miniature, and runs that go on with other hosts or devices."""

import dataclasses
import os
import random
import re
import signal
import socket
import time
from pathlib import Path

import numpy as np
import pytest

from sadist_jax.data.package_photos import PackagePhotos
from sadist_jax.methods.sami import Sami
from sadist_jax.train import config as configs
from sadist_jax.train import outcome, pulse
from sadist_jax.train.checkpoint import Checkpoints, CheckpointSpec
from sadist_jax.train.log import Log, LogSpec
from sadist_jax.train.run import Data, Evaluation
from tests.train.test_processes import finish, kill, last_state, launch, lines, steps_begun  # its config is the toy's
from tests.train.toy import leaves_of

PHASE = "TEST_ASKED_IN"
STEPS = 60


def ask(when: bool = True) -> None:
    """SIGTERM to this very process."""
    if when:
        os.kill(os.getpid(), signal.SIGTERM)


def look(method, params, frozen, extra):
    ask(os.environ.get(PHASE) == "eval")
    pulse.beat()
    return {"token": np.square(params["decoder"]["mask_token"]).sum()}


def before(place, name, when):
    """`place.name` sends a SIGTERM before it does its work, if `when(*its arguments)`."""
    work = getattr(place, name)
    setattr(place, name, lambda *args, **named: ask(when(*args)) or work(*args, **named))


def config():
    """This file is also the config of the runs: configs/sami_mini.py with fewer and smaller steps."""
    phase = os.environ.get(PHASE)
    if phase == "compile":  # Python is asked for the loss while the step is traced
        before(Sami, "loss", lambda *_: True)
    if phase == "restore":
        before(Checkpoints, "restore", lambda *_: True)
    if phase == "step":
        before(Log, "samples", lambda log, step, index: step == 17)
    if phase == "save":
        before(Checkpoints, "save", lambda saved, state, *_: int(state.step) == 40)
    if phase == "export":
        before(outcome, "export", lambda *_: True)
    run = configs.load(configs.find("sami_mini")).config()
    return dataclasses.replace(
        run,
        steps=STEPS,
        global_batch=2,
        data=Data(PackagePhotos("train"), run.data.transform),
        optim=dataclasses.replace(run.optim, warmup=5),
        evals=(Evaluation("look", 15, look),),
        checkpoint=CheckpointSpec(every=10, best="look/token", best_is="min"),
        log=LogSpec(every=4, samples=True),
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What SAMI in miniature leaves when nothing happens to it."""
    out = tmp_path_factory.mktemp("whole") / "sami"
    finish(launch(out, file=__file__))
    return out


def assert_same_run(out: Path, whole: Path) -> None:
    """Log, samples, weights and the steps that were kept; bit for bit."""
    for name in ("metrics.jsonl", "samples.jsonl"):
        assert lines(out / name) == lines(whole / name)
    assert [record["index"] for record in lines(out / "samples.jsonl")] == np.arange(STEPS * 2).reshape(-1, 2).tolist()
    assert (out / "params.safetensors").read_bytes() == (whole / "params.safetensors").read_bytes()
    assert {p.name for p in (out / "checkpoints").iterdir()} == {p.name for p in (whole / "checkpoints").iterdir()}


@pytest.mark.timeout(1800)
@pytest.mark.processes
def test_sami_mini_is_asked_to_stop_in_six_phases(whole, tmp_path):
    """Once in each, five times in time; what it leaves is bit-equal to what the unbroken run leaves."""
    out = tmp_path / "asked"
    saved = f"after step {{}}, which is saved in {out}"
    stopped = {
        "compile": (75, 1, saved),
        "step": (75, 17, saved),
        "restore": (75, 17, "before its next step; nothing is lost"),
        "eval": (75, 30, saved),
        "save": (75, 41, saved),
        "export": (0, STEPS, None),  # too late to be obeyed: all that is left is to end
    }
    for phase, (code, step, where) in stopped.items():
        output = finish(launch(out, file=__file__, **{PHASE: phase}), code)
        assert steps_begun(out) == step, (phase, output)
        if code:
            assert f"asked to stop (SIGTERM) {where.format(step)}; to go on: sadist" in output
    assert_same_run(out, whole)


@pytest.mark.timeout(1800)
@pytest.mark.processes
def test_sami_mini_is_killed_five_times(whole, tmp_path):
    """SIGKILL at five random steps; what it leaves is bit-equal to what the unbroken run leaves."""
    out, dice = tmp_path / "killed", random.Random(1)
    for step in sorted(dice.sample(range(2, STEPS - 5), 5)):
        kill(launch(out, file=__file__), out, step, dice.uniform(0, 0.3))
    assert "goes on after step" in finish(launch(out, file=__file__))
    assert_same_run(out, whole)


OPTIONS = ("--steps", "30", "--data.workers", "0", "--shard.min-size", "16")
SIZE = 8


def until(out: Path, step: int, processes) -> None:
    while steps_begun(out) < step:
        for process in processes:
            assert process.poll() is None, process.communicate()[0]
        time.sleep(0.002)


def launch_hosts(out: Path, count: int, devices: int, *options: str, places: tuple[Path | None, ...] = ()):
    """`count` processes as one run, `devices` each; each of several in a place of its own, if they are given."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    known = {"SADIST_COORDINATOR": f"127.0.0.1:{port}", "SADIST_PROCESSES": str(count)}
    return [
        launch(out, *options, devices=devices, cwd=place, **(known | {"SADIST_PROCESS": str(i)} if count > 1 else {}))
        for i, place in enumerate(places or (None,) * count)
    ]


def legs(out: Path, *shapes: tuple[int, int]) -> None:
    """A run on one shape (processes, devices of each) after the other; all but the last are asked to stop on the way.

    Of several processes only the last is asked.
    """
    for number, (count, devices) in enumerate(shapes, 1):
        begun = steps_begun(out)
        processes = launch_hosts(out, count, devices, *OPTIONS, "--mesh.fsdp", "2")
        if number < len(shapes):
            until(out, begun + 5, processes)
            processes[-1].send_signal(signal.SIGTERM)
        code = 75 if number < len(shapes) else 0
        outputs = [finish(process, code) for process in processes]
        if code:
            told = {re.search(r"SIGTERM\) after step (\d+),", output)[1] for output in outputs}
            assert told == {str(steps_begun(out))}  # all after the same step


def furthest(found: Path, expected: Path) -> float:
    """Largest difference of any number of the last states; each is compared with allclose."""
    a, b = leaves_of(last_state(found)), leaves_of(last_state(expected))
    for name, value in b.items():
        np.testing.assert_allclose(a[name], value, rtol=1e-5, atol=1e-5, err_msg=name)
    return max(float(np.abs(np.asarray(a[name], np.float64) - value).max()) for name, value in b.items())


def seen(out: Path) -> list[list[int]]:
    """Positions of the samples of each step, over all hosts."""
    found: dict[int, list[int]] = {}
    for path in sorted(out.glob("samples*.jsonl")):
        for record in lines(path):
            found.setdefault(record["step"], []).extend(record["index"])
    return [sorted(found[step]) for step in sorted(found)]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    out = tmp_path_factory.mktemp("unbroken") / "toy"
    finish(launch(out, *OPTIONS, "--mesh.fsdp", "2", devices=8))
    return out


@pytest.mark.timeout(1800)
@pytest.mark.processes
@pytest.mark.parametrize(
    "shapes", [((2, 1), (1, 2), (2, 1)), ((1, 8), (1, 4), (1, 2))], ids=["2-1-2-processes", "8-4-2-devices"]
)
def test_it_goes_on_with_other_hosts_and_devices(unbroken, tmp_path, shapes):
    out = tmp_path / "toy"
    legs(out, *shapes)
    distance = furthest(out, unbroken)
    print(f"\n(processes, devices) {shapes} against (1, 8) unbroken: largest difference {distance:.2g}")
    assert seen(out) == np.arange(30 * SIZE).reshape(30, SIZE).tolist()


@pytest.mark.processes
def test_a_second_job_is_refused(tmp_path):
    """Both hosts of it are told, and end with 2: what refuses process 0 must not leave the others waiting."""
    first = launch(tmp_path / "held", "--steps", "5000", "--data.workers", "0")
    try:
        until(tmp_path / "held", 1, [first])
        second = launch_hosts(tmp_path / "held", 2, 1, *OPTIONS)
        outputs = [finish(process, 2) for process in second]
    finally:
        first.kill()
        first.communicate()
    assert f"in use by another run: process {first.pid} on {socket.gethostname()}, since 20" in outputs[0]
    assert "process 0 could not take" in outputs[1]


@pytest.mark.processes
def test_hosts_that_share_no_directory_are_refused(tmp_path):
    """The same path on two machines with disks of their own."""
    places = (tmp_path / "a", tmp_path / "b")
    for place in places:
        place.mkdir()
    processes = launch_hosts(Path("toy"), 2, 1, *OPTIONS, places=places)
    for process in processes:
        assert "do not share" in finish(process, 2)
