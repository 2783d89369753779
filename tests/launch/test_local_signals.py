"""`sadist launch local` is asked to stop, or goes away: no process of it is left, and what can be saved is."""

import os
import signal
import subprocess
import sys
import time

import pytest

from tests.launch.stand_ins import pids, start, starts, wait_for, wait_until_gone

TAKE_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""
pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]


def test_sigterm_goes_on_to_all_and_the_launcher_says_75(tmp_path):
    process = start(tmp_path, "wait,wait;0,0")
    wait_for(tmp_path, process)
    process.send_signal(signal.SIGTERM)
    assert (process.communicate()[0].count("process 0 does"), process.returncode) == (1, 75)


def test_ctrl_c_reaches_ranks_even_where_it_was_ignored_before(tmp_path):
    """Python's own handler ends a stand-in (KeyboardInterrupt), which it would not be if the child had inherited it."""
    process = start(tmp_path, "deaf,deaf;0,0")
    wait_for(tmp_path, process)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate()
    assert process.returncode == 130
    assert "KeyboardInterrupt" in output


def test_a_second_signal_ends_ranks_that_do_not_listen(tmp_path):
    process = start(tmp_path, "deaf,deaf;0,0")
    wait_for(tmp_path, process)
    for _ in range(2):
        process.send_signal(signal.SIGTERM)
        time.sleep(1.2)  # within a second it is the same one
    process.communicate()
    assert process.returncode == 3
    assert [len(each) for each in starts(tmp_path)] == [1, 1]


def saved(tmp_path) -> list[bool]:
    return [(tmp_path / f"saved-{i}").exists() for i in range(2)]


def test_a_signal_to_launcher_and_ranks_together_still_saves(tmp_path):
    """As a scheduler sends it to every process of a job: the ranks get it twice, the second time from the launcher."""
    process = start(tmp_path, "save,save;0,0")
    wait_for(tmp_path, process)
    for each in (process.pid, *pids(tmp_path)):
        os.kill(each, signal.SIGTERM)
    time.sleep(0.3)
    process.send_signal(signal.SIGTERM)  # the launcher, too, may get it by two ways
    output, _ = process.communicate()
    assert (process.returncode, saved(tmp_path)) == (75, [True, True]), output


def test_who_was_ended_before_it_saved_is_not_said_to_have_saved(tmp_path):
    process = start(tmp_path, "unready,unready;0,0")
    wait_for(tmp_path, process)
    process.send_signal(signal.SIGTERM)
    process.communicate()
    assert process.returncode == 3


def test_who_saves_is_not_disturbed_where_another_fails(tmp_path):
    """A second SIGTERM, for the failure, would end it."""
    process = start(tmp_path, "fail,save;0,0", "--grace", "20")
    wait_for(tmp_path, process)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate()
    assert (process.returncode, saved(tmp_path)) == (1, [False, True]), output


def test_a_terminal_that_closes_asks_to_stop(tmp_path):
    """As a lost ssh: SIGHUP, and nothing more can be printed."""
    master, terminal = os.openpty()
    how = {"stdin": terminal, "stdout": terminal, "stderr": terminal, "start_new_session": True}
    process = start(tmp_path, "save,save;0,0", by=[sys.executable, "-c", TAKE_TERMINAL], **how)
    os.close(terminal)
    wait_for(tmp_path, process)
    os.close(master)
    assert (process.wait(), saved(tmp_path)) == (75, [True, True])


def test_nohup_outlives_the_terminal(tmp_path):
    process = start(tmp_path, "wait,wait;0,0", ignored=signal.SIGHUP)
    wait_for(tmp_path, process)
    process.send_signal(signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=1)
    process.send_signal(signal.SIGTERM)
    process.communicate()
    assert process.returncode == 75


def test_a_launcher_that_is_killed_takes_its_processes_with_it(tmp_path):
    process = start(tmp_path, "save,save;0,0")
    wait_for(tmp_path, process)
    process.kill()
    for each in pids(tmp_path):
        wait_until_gone(each)
    process.communicate()
    assert saved(tmp_path) == [True, True]
