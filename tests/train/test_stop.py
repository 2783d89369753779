import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import pytest

from sadist_jax.errors import Preempted
from sadist_jax.train import stop as stops
from sadist_jax.train.stop import Stop

ROOT = Path(__file__).parents[2]


def ask():
    os.kill(os.getpid(), signal.SIGTERM)


def test_a_sigterm_is_noted_and_what_was_there_comes_back():
    before = [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)]
    with Stop() as stop:
        assert not stop.asked
        ask()
        assert stop.asked
    assert [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)] == before


@pytest.mark.processes
@pytest.mark.parametrize("second", ["SIGTERM", "SIGINT"])
def test_the_second_signal_ends_at_once(second):
    """Not through Python, which would have to come to the end of what it calls first, and that may be never."""
    program = (
        "import os, signal, time; from sadist_jax.train.stop import Stop\n"
        "with Stop() as stop:\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    assert stop.asked\n"
        f"    os.kill(os.getpid(), signal.{second})\n"
        "    time.sleep(60)"
    )
    found = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, timeout=60)
    assert found.returncode == -getattr(signal, second)
    assert b"SIGTERM: ends as soon as nothing is lost" in found.stderr


@pytest.mark.processes
@pytest.mark.parametrize(("apart", "code", "said"), [(0.0, 75, "saved"), (0.3, 75, "saved"), (2.0, -15, "")])
def test_a_signal_that_comes_twice_within_a_second_is_one(apart, code, said):
    """From who ends all processes of a job, and once more from the parent, which hands its own on."""
    program = (
        "import sys, time; from sadist_jax.train.stop import Stop\n"
        "with Stop() as stop:\n"
        "    print('listens', flush=True)\n"
        "    while not stop.asked: time.sleep(0.01)\n"
        "    time.sleep(3)\n"  # what is to be saved
        "    sys.exit(print('saved') or 75)"
    )
    with subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "listens\n"
        process.send_signal(signal.SIGTERM)
        time.sleep(apart)
        process.send_signal(signal.SIGTERM)
        rest, _ = process.communicate(timeout=60)
    assert (process.returncode, rest.strip()) == (code, said)


def test_who_waits_for_the_other_hosts_ends_there_and_then():
    with Stop() as stop:
        with stop.at_once():
            pass
        ask()
        assert stop.asked
    with Stop() as stop, stop.at_once(), pytest.raises(Preempted, match=r"SIGTERM. before it began; to go on: "):
        ask()


@pytest.mark.processes
def test_no_jax_is_needed_to_note_one():
    program = "import sys, sadist_jax.train.stop; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, timeout=60).returncode == 0


def test_a_handler_that_comes_later_is_warned_of_once():
    def library(number, frame):
        raise AssertionError

    with Stop() as stop:
        stop.keep()
        signal.signal(signal.SIGTERM, library)
        with pytest.warns(UserWarning, match=r"taken over SIGTERM \(.*library\); it is taken back"):
            stop.keep()
        signal.signal(signal.SIGTERM, library)
        with warnings.catch_warnings(action="error"):
            stop.keep()
        ask()
        assert stop.asked
        stop.keep()
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL  # the second one must still end at once


def test_it_takes_the_signal_back_from_jax():
    """As C++ code takes it: unseen by `getsignal`."""
    with Stop() as stop:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        stop.install()
        ask()
        assert stop.asked


def test_another_thread_is_never_asked():
    before, found = signal.getsignal(signal.SIGTERM), []

    def work():
        with Stop() as stop:
            stop.install()
            stop.keep()
            found.append((stop.asked, signal.getsignal(signal.SIGTERM)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [(False, before)]


def test_work_stops_between_two_pieces():
    done = []

    def work(number):
        done.append(number)
        if number == 2:
            ask()

    with Stop() as stop, pytest.raises(Preempted, match=r"SIGTERM. between two pieces of work"):
        list(map(stop.before_each(work), range(1, 5)))
    assert done == [1, 2]


@pytest.mark.parametrize(
    ("argv", "orig", "expected"),
    [
        (["/venv/bin/sadist", "train", "my run.py"], ["python", "/venv/bin/sadist"], "sadist train 'my run.py'"),
        (["/x/sadist_jax/__main__.py", "eval"], ["python", "-m", "sadist_jax", "eval"], "sadist eval"),
        (["mine.py", "3"], ["python", "-O", "mine.py", "3"], "python -O mine.py 3"),
    ],
)
def test_the_command_to_go_on_is_the_one_that_was_given(monkeypatch, argv, orig, expected):
    monkeypatch.setattr(sys, "argv", argv)
    monkeypatch.setattr(sys, "orig_argv", orig)
    assert stops.command() == expected
