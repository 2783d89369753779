"""Runs as users have them, in processes of their own: killed at random, and several as one."""

import contextlib
import dataclasses
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from sadist_jax.train import begin
from sadist_jax.train.checkpoint import Checkpoints, CheckpointSpec
from sadist_jax.train.log import LogSpec
from sadist_jax.train.optim import Optim
from sadist_jax.train.run import Data
from tests.train.toy import Points, PointSource, Toy, assert_same_bits, leaves_of, toy_run

ROOT = Path(__file__).parents[2]
STEPS = 120


@dataclasses.dataclass(frozen=True)
class SlowPoints(Points):
    """A step takes the two workers about 20 ms."""

    def __call__(self, sample, rng):
        time.sleep(0.005)
        return super().__call__(sample, rng)


def config():
    """This file is also the config of the runs."""
    return toy_run(
        "runs/toy",
        method=Toy(),
        data=Data(PointSource(), SlowPoints(), workers=2),
        steps=STEPS,
        optim=Optim(lr=3e-2, warmup=10, weight_decay=0.1, clip_norm=1.0, ema=0.99),
        checkpoint=CheckpointSpec(every=5),
        log=LogSpec(every=6, samples=True),
    )


def launch(
    out: Path,
    *options: str,
    devices: int = 1,
    file: str = __file__,
    cwd: Path | None = None,
    group: bool = False,
    **environment: str,
) -> subprocess.Popen:
    """`sadist train` of the config above, or of another file's, with as many simulated devices.

    group: as a process group of its own, which a terminal's Ctrl-C does not reach.
    """
    flags = f"--xla_force_host_platform_device_count={devices}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "XLA_FLAGS": flags, **environment}
    command = [sys.executable, "-m", "sadist_jax", "train", file, "--out", str(out), *options]
    return subprocess.Popen(
        command,
        env=environment,
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=group,
    )


def finish(process: subprocess.Popen, code: int = 0) -> str:
    """What it printed until it ended, which it must with this exit code."""
    try:
        output, _ = process.communicate(timeout=1500)
    finally:
        process.kill()
    assert process.returncode == code, output
    return output


def lines(path: Path) -> list[dict]:
    records = [json.loads(line) for line in path.read_text().splitlines()]
    return [{k: v for k, v in record.items() if k != "samples_per_second"} for record in records]


def last_state(out: Path):
    run = config()
    checkpoints = Checkpoints(out, run.checkpoint, {}, None)
    try:
        return jax.device_get(checkpoints.restore(begin.plan_of(run).template, accept=True).state)
    finally:
        checkpoints.close()


def steps_begun(out: Path) -> int:
    path = out / "samples.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def kill(process: subprocess.Popen, out: Path, step: int, later: float) -> None:
    """SIGKILL once the run in `out` has begun `step` steps, one of them itself, and `later` seconds after that.

    Call it as soon as the process is launched: what the log holds then is an earlier one's, and may be enough already.
    """
    step = max(step, steps_begun(out) + 1)
    while steps_begun(out) < step:
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.002)
    time.sleep(later)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL, "the run ended before it was killed"


@pytest.mark.timeout(1800)  # a minute on two idle cores
@pytest.mark.processes
def test_killed_five_times_it_ends_with_the_same_bits(tmp_path):
    """SIGKILL at five random steps, two loader workers; parameters, moments, average, sample ids and log are equal."""
    finish(launch(tmp_path / "unbroken"))
    out, dice = tmp_path / "killed", random.Random(0)
    for step in sorted(dice.sample(range(2, STEPS - 15), 5)):
        kill(launch(out), out, step, dice.uniform(0, 0.05))
    assert "goes on after step" in finish(launch(out))

    assert int(last_state(out).step) == STEPS
    assert_same_bits(last_state(out), last_state(tmp_path / "unbroken"))
    for name in ("samples.jsonl", "metrics.jsonl"):
        assert lines(out / name) == lines(tmp_path / "unbroken" / name)
    for name in ("params.safetensors", "average.safetensors"):
        assert (out / name).read_bytes() == (tmp_path / "unbroken" / name).read_bytes()


@pytest.mark.processes
def test_a_signal_to_the_group_while_workers_start_still_saves(tmp_path):
    """SIGTERM to the run and its two loader workers, as soon as there is one, while the first step compiles."""
    run = launch(tmp_path / "toy", group=True)
    try:
        while not has_worker(run.pid):
            assert run.poll() is None, run.communicate()[0]
            time.sleep(0.002)
        os.killpg(run.pid, signal.SIGTERM)
    finally:
        output = finish(run, 75)
    assert re.search(r"asked to stop \(SIGTERM\) after step \d+, which is saved in", output)


def has_worker(group: int) -> bool:
    """Whether a process of multiprocessing's is in this process group."""
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it is gone
            if os.getpgid(int(place.name)) == group and b"spawn_main" in (place / "cmdline").read_bytes():
                return True
    return False


@pytest.mark.timeout(1800)  # a minute on two idle cores
@pytest.mark.processes
def test_two_processes_train_as_one(tmp_path):
    """Two processes of two devices, leaves cut across both, against one process of four devices."""
    options = ("--mesh.fsdp", "4", "--shard.min-size", "16", "--steps", "20", "--data.workers", "0")
    alone = launch(tmp_path / "alone", *options, devices=4)
    finish(alone)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    both = [
        launch(
            tmp_path / "both",
            *options,
            devices=2,
            SADIST_COORDINATOR=f"127.0.0.1:{port}",
            SADIST_PROCESSES="2",
            SADIST_PROCESS=str(process),
        )
        for process in range(2)
    ]
    outputs = [finish(process) for process in both]
    assert ("toy starts" in outputs[0], "toy starts" in outputs[1]) == (True, False)

    expected, found = leaves_of(last_state(tmp_path / "alone")), leaves_of(last_state(tmp_path / "both"))
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-5, err_msg=name)
    halves = [lines(tmp_path / "both" / name) for name in ("samples.jsonl", "samples-1.jsonl")]
    together = [a["index"] + b["index"] for a, b in zip(*halves, strict=True)]
    assert together == [record["index"] for record in lines(tmp_path / "alone" / "samples.jsonl")]
