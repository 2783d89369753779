"""Batch jobs of the real launch/slurm.sbatch under a real Slurm of two nodes, which .ci/slurm starts."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
STEPS = 100  # of slow_toy.py

pytestmark = [
    pytest.mark.processes,
    pytest.mark.timeout(1200),  # two minutes for all of them on two idle cores
    pytest.mark.skipif("SADIST_TEST_SLURM" not in os.environ, reason="needs the Slurm that `bash .ci/slurm` starts"),
]


def environment() -> dict[str, str]:
    """Of a run with one simulated device a process."""
    flags = "--xla_force_host_platform_device_count=1"
    return {**os.environ, "PYTHONPATH": str(ROOT), "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}


def submit(folder: Path, job: list[str], *options: str) -> int:
    """The number of a job of two tasks, one a node, submitted in `folder` by `sadist launch slurm --submit`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        coordinator = f"127.0.0.1:{free.getsockname()[1]}"  # the nodes' names cannot be looked up
    words = ["--nodes", "2", "--coordinator", coordinator, "--output", "job %j.log", "--time", "5", *options]
    command = [sys.executable, "-m", "sadist_jax", "launch", "slurm", *words, "--submit", "--", *job]
    done = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return int(re.search(r"Submitted batch job (\d+)", done.stdout)[1])


def about(job: int) -> dict[str, str]:
    """What Slurm knows of a job; values with a space in them are cut there."""
    text = subprocess.run(["scontrol", "show", "job", str(job)], check=True, capture_output=True, text=True).stdout
    return dict(word.split("=", 1) for word in text.split() if "=" in word)


def wait_for(job: int, folder: Path, condition, what: str, seconds: float = 400) -> None:
    end = time.monotonic() + seconds
    while not condition():
        log = folder / f"job {job}.log"
        assert time.monotonic() < end, f"no {what}\n{about(job)}\n{log.read_text() if log.exists() else 'no log'}"
        time.sleep(0.2)


def ended(job: int) -> bool:
    return about(job)["JobState"] in ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL")


def samples(out: Path) -> list[list[dict]]:
    """Of each rank, the samples of each step."""
    names = "samples.jsonl", "samples-1.jsonl"
    return [[json.loads(line) for line in (out / name).read_text().splitlines()] for name in names]


def steps_begun(out: Path) -> int:
    path = out / "samples.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def test_a_job_that_is_asked_to_stop_is_queued_again_and_ends_as_an_unbroken_run(tmp_path):
    """SIGTERM to the tasks, as two minutes before the time limit: they save, end with 75, and go on when it starts."""
    out = tmp_path / "runs" / "broken"
    train = ["train", str(HERE / "slow_toy.py"), "--out"]
    job = submit(tmp_path, [*train, str(out)], "--name", "it's a run")
    wait_for(job, tmp_path, lambda: steps_begun(out) >= 25, "25 steps")
    subprocess.run(["scancel", "--signal=TERM", str(job)], check=True)
    wait_for(job, tmp_path, lambda: about(job)["Restarts"] == "1" and about(job)["JobState"] == "PENDING", "requeue")
    stopped = steps_begun(out)
    assert stopped < STEPS
    # Slurm lets a job that was queued again wait two minutes; a node refuses one that comes back within the second in
    # which its credential was revoked
    subprocess.run(["scontrol", "update", f"JobId={job}", "StartTime=now+5"], check=True)
    wait_for(job, tmp_path, lambda: ended(job), "end")
    log = (tmp_path / f"job {job}.log").read_text()
    assert about(job)["JobState"] == "COMPLETED", log
    assert "asked to stop, and saved: queued again" in log
    assert len(re.findall(r"toy starts", log)) == 1
    gone_on = int(re.search(r"toy goes on after step (\d+)", log)[1])
    assert 25 <= gone_on <= stopped + 2  # at the step of the signal, not at the last checkpoint (every 10)
    assert not list(tmp_path.glob(".slurm-*")), "a file is left behind"

    alone = tmp_path / "runs" / "unbroken"
    local = ["local", "--processes", "2", "--devices-per-process", "1", "--", *train, str(alone)]
    subprocess.run([sys.executable, "-m", "sadist_jax", "launch", *local], cwd=tmp_path, env=environment(), check=True)
    assert samples(out) == samples(alone)
    for name in ("params.safetensors", "average.safetensors"):
        assert (out / name).read_bytes() == (alone / name).read_bytes()


def test_scancel_ends_a_job_for_good(tmp_path):
    out = tmp_path / "runs" / "toy"
    job = submit(tmp_path, ["train", str(HERE / "slow_toy.py"), "--out", str(out)])
    wait_for(job, tmp_path, lambda: steps_begun(out) >= 3, "3 steps")
    subprocess.run(["scancel", str(job)], check=True)
    wait_for(job, tmp_path, lambda: ended(job), "end")
    time.sleep(2)
    assert (about(job)["JobState"], about(job)["Restarts"]) == ("CANCELLED", "0")
    assert "queued again" not in (tmp_path / f"job {job}.log").read_text()


def test_bad_input_is_not_queued_again(tmp_path):
    out = tmp_path / "runs" / "toy"
    job = submit(tmp_path, ["train", str(HERE / "slow_toy.py"), "--out", str(out), "--steps", "0"])
    wait_for(job, tmp_path, lambda: ended(job), "end")
    log = (tmp_path / f"job {job}.log").read_text()
    assert (about(job)["JobState"], about(job)["Restarts"], about(job)["ExitCode"]) == ("FAILED", "0", "2:0"), log
    assert "steps is 0; it must be 1 or more" in log
    assert log.count("bad input: not run again") == 1


def test_a_lost_task_makes_all_start_again_in_the_same_allocation(tmp_path):
    out = tmp_path / "runs" / "toy"
    job = submit(tmp_path, ["train", str(HERE / "slow_toy.py"), "--out", str(out)])
    wait_for(job, tmp_path, lambda: steps_begun(out) >= 25, "25 steps")
    kill_task(job, 1)
    wait_for(job, tmp_path, lambda: ended(job), "end")
    log = (tmp_path / f"job {job}.log").read_text()
    assert (about(job)["JobState"], about(job)["Restarts"]) == ("COMPLETED", "0"), log
    assert "restart 1 of 3" in log
    assert re.search(r"toy goes on after step [1-9]0\b", log)
    assert [record["step"] for record in samples(out)[0]] == list(range(1, STEPS + 1))


def kill_task(job: int, task: int) -> None:
    """SIGKILL to one of the job's processes of Python."""
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
            variables = (folder / "environ").read_bytes().split(b"\0")
        except OSError:  # it has just ended
            continue
        wanted = {f"SLURM_JOB_ID={job}".encode(), f"SLURM_PROCID={task}".encode(), b"SLURM_STEP_ID=0"}
        if wanted <= set(variables) and b"python" in words[0] and b"train" in words:
            os.kill(int(folder.name), 9)
            return
    raise AssertionError("there is no such task")


JOB = '''"""A stand-in for a job of sadist: who waits to be asked to stop, and who has a bug once the others wait."""

import os
import time
from pathlib import Path

from sadist_jax.train.stop import Stop


def main(argv):
    folder, buggy = Path(argv[0]), argv[1]
    task = os.environ["SLURM_PROCID"]
    start = len(list(folder.glob(f"waits-*-{task}")))
    with Stop() as stop:
        (folder / f"waits-{start}-{task}").touch()
        while not all((folder / f"waits-{start}-{other}").exists() for other in "01"):
            time.sleep(0.05)
        if task == buggy:
            raise RuntimeError("a bug")
        while not stop.asked:
            time.sleep(0.05)
        raise stop.preempted(f"in the middle of task {task}")
'''


def stand_in(folder: Path) -> str:
    """A `python` whose `-m sadist_jax train` or `label` is JOB, started by the real main, which notes the exit code."""
    (folder / "jobs").mkdir()
    for name in ("train", "label"):
        (folder / "jobs" / f"{name}.py").write_text(JOB)
    python = folder / "python"
    lines = ["import sys", "from sadist_jax import cli", f"cli.__path__ = [{str(folder / 'jobs')!r}]"]
    python.write_text("\n".join([f"#!{sys.executable}", *lines, "sys.exit(cli.main(sys.argv[3:]))\n"]))
    python.chmod(0o755)
    return str(python)


def test_a_bug_is_counted_though_the_others_were_asked_to_stop_because_of_it(tmp_path):
    job = submit(tmp_path, ["train", str(tmp_path), "1"], "--python", stand_in(tmp_path), "--max-restarts", "1")
    wait_for(job, tmp_path, lambda: ended(job), "end")
    log = (tmp_path / f"job {job}.log").read_text()
    assert (about(job)["JobState"], about(job)["Restarts"]) == ("FAILED", "0"), log
    assert log.count("0: sadist: asked to stop (SIGTERM) in the middle of task 0") == 2  # and ended with 75
    assert log.count("1: RuntimeError: a bug") == 2
    assert "restart 1 of 1" in log
    assert "after 1 restarts" in log


def test_a_controller_that_does_not_answer_is_asked_again(tmp_path):
    """Its programs fail the first time that the job calls them. A job whose tasks end each in its own time."""
    for name in ("squeue", "scontrol"):
        real, called = shutil.which(name), tmp_path / f"{name} has failed"
        text = f"#!/bin/bash\nif [ -e '{called}' ]; then exec {real} \"$@\"; fi\ntouch '{called}'\nexit 1\n"
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    words = ["--python", stand_in(tmp_path), "--setup", f"PATH={tmp_path}:$PATH"]
    job = submit(tmp_path, ["label", str(tmp_path), "nobody"], *words)
    wait_for(job, tmp_path, lambda: all((tmp_path / f"waits-0-{task}").exists() for task in "01"), "start")
    subprocess.run(["scancel", "--signal=TERM", str(job)], check=True)
    wait_for(job, tmp_path, lambda: about(job)["Restarts"] == "1" and about(job)["JobState"] == "PENDING", "requeue")
    assert all((tmp_path / f"{name} has failed").exists() for name in ("squeue", "scontrol"))
    subprocess.run(["scancel", str(job)], check=True)


def test_each_task_sees_all_gpus_and_has_a_number_of_its_own(tmp_path):
    """Of which it takes its part by that number (parallel/cluster.py). Python is a stand-in that prints both.

    And its cores: since 22.05, srun binds a task to one unless SRUN_CPUS_PER_TASK says how many the job has asked for.
    """
    python = tmp_path / "python"
    seen = (
        "gpus $SLURM_GPUS_ON_NODE $SLURMD_TRES_BIND task $SLURM_LOCALID of $SLURMD_NODENAME cores $SRUN_CPUS_PER_TASK"
    )
    python.write_text(f'#!/bin/bash\necho "{seen}"\n')
    python.chmod(0o755)
    job = submit(tmp_path, ["train", "x"], "--gpus-per-node", "2", "--cpus-per-task", "2", "--python", str(python))
    wait_for(job, tmp_path, lambda: ended(job), "end")
    log = (tmp_path / f"job {job}.log").read_text()
    found = re.findall(r"gpus (\S*) (\S*) task (\d) of (n\d) cores (\d)", log)
    assert sorted(found) == [("2", "gpu:none", task, node, "2") for task in "01" for node in ("n1", "n2")], log
