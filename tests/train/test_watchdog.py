import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sadist_jax.errors import HANG
from sadist_jax.train.watchdog import COMPILE, Watchdog

ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys, threading, time
from pathlib import Path
from sadist_jax.train import watchdog
from sadist_jax.train.watchdog import Watchdog

def beat_for(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        dog.beat()
        time.sleep(0.02)

def stuck():
    time.sleep(60)

with Watchdog(float(sys.argv[1]), Path(sys.argv[2])) as dog:
    print("begun", flush=True)
    {body}
print("done", flush=True)
"""


def start(limit, report, body):
    command = [sys.executable, "-c", PROGRAM.format(body=body), str(limit), str(report)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.processes
def test_a_hang_says_where_and_ends(tmp_path):
    report = tmp_path / "hang-0.txt"
    process = start(0.4, report, "beat_for(1.0); stuck()")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == HANG == 70
    assert f"nothing has ended for 0.4 s, where every thread is stands in {report}" in errors
    for text in (errors, report.read_text()):
        assert "in stuck" in text
        assert "in _watch" in text  # all threads


@pytest.mark.processes
def test_the_report_may_be_what_hangs(tmp_path):
    """As on a drive that has gone: the process ends all the same. Who opens a FIFO waits until somebody reads it."""
    report = tmp_path / "hang.txt"
    os.mkfifo(report)
    process = start(0.2, report, "watchdog._WRITING = 1.0; dog.beat(); stuck()")
    try:
        _, errors = process.communicate(timeout=30)
    finally:
        process.kill()
    assert (process.returncode, "in stuck" in errors) == (HANG, True)


@pytest.mark.processes
def test_a_suspended_process_has_not_hung(tmp_path):
    process = start(0.6, tmp_path / "hang.txt", "beat_for(1.5)")
    process.stdout.readline()
    time.sleep(0.3)
    process.send_signal(signal.SIGSTOP)
    time.sleep(1.5)
    process.send_signal(signal.SIGCONT)
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, output) == (0, "done\n"), errors


def test_what_is_compiled_first_has_more_time(tmp_path, monkeypatch):
    bitten = []
    monkeypatch.setattr(Watchdog, "_bite", lambda dog: bitten.append(time.monotonic() - began))
    for beat, factor in ((Watchdog.expect_compile, COMPILE), (Watchdog.beat, 1)):
        bitten.clear()
        with Watchdog(0.2, tmp_path / "hang.txt") as dog:
            beat(dog)
            began = time.monotonic()
            time.sleep(0.2 * factor + 0.4)
        assert 0.2 * factor <= bitten[0] < 0.2 * factor + 0.4


def test_zero_is_never(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "_exit", lambda code: pytest.fail("ended"))
    with Watchdog(0, tmp_path / "hang.txt") as dog:
        dog.beat()
        time.sleep(0.1)
    assert not (tmp_path / "hang.txt").exists()
