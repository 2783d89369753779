"""`sadist launch local` with stand-ins for its ranks (ends.py)."""

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


def words(tmp_path: Path, plan: str, *options: str) -> list[str]:
    """What is typed after `sadist launch` to start two stand-ins."""
    prefix = shlex.join([sys.executable, str(HERE / "ends.py"), str(tmp_path), plan])
    fixed = ["--processes", "2", "--grace", "1", "--logs", str(tmp_path / "logs"), "--prefix", prefix]
    return ["local", *fixed, *options, "--", "train", "sam_mini"]


def starts(tmp_path: Path) -> list[list[str]]:
    """[of process 0, of process 1]: the address and the number of processes at each start."""
    return [(tmp_path / f"starts-{i}").read_text().splitlines() for i in range(2)]


def pids(tmp_path: Path) -> list[int]:
    """Of the stand-ins that were started last."""
    return [int((tmp_path / f"pid-{i}").read_text()) for i in range(2)]


def start(
    tmp_path: Path, plan: str, *options: str, ignored: int = signal.SIGINT, by: Sequence[str] = (), **how: Any
) -> subprocess.Popen:
    """The launcher in a process of its own, as a shell starts it before `&`: with SIGINT ignored, or another.

    by: a command that executes the words behind it.
    """
    environment = {**os.environ, "PYTHONPATH": str(HERE.parents[1])}
    command = [*by, sys.executable, "-m", "sadist_jax", "launch", *words(tmp_path, plan, *options)]
    before = signal.signal(ignored, signal.SIG_IGN)  # a child inherits this
    try:
        how = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, **how}
        return subprocess.Popen(command, env=environment, text=True, **how)
    finally:
        signal.signal(ignored, before)


def wait_for(tmp_path: Path, process: subprocess.Popen) -> None:
    """Until both stand-ins listen for signals."""
    while not all((tmp_path / f"starts-{i}").exists() for i in range(2)):
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)


def wait_until_gone(process: int, seconds: float = 20) -> None:
    """Until a process that is not ours to wait for has ended."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return  # where nobody collects orphans
        except FileNotFoundError:
            return
        time.sleep(0.05)
    os.kill(process, signal.SIGKILL)
    raise AssertionError(f"process {process} ran on")
