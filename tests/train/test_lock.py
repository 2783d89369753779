import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from sadist_jax.errors import BadInput
from sadist_jax.train import lock as locks
from sadist_jax.train.lock import FILE, Lock, is_seen

ROOT = Path(__file__).parents[2]
HOLDER = (
    "import sys, time; from pathlib import Path; from sadist_jax.train.lock import Lock\n"
    "with Lock(Path(sys.argv[1]), beat=0.1): print('held', flush=True); time.sleep(60)"
)


@pytest.fixture
def holder(tmp_path):
    """A process that has the lock."""
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"held\n"
        yield process
        process.kill()


def of_another_host(directory, **changes):
    """The lock of a process that cannot be looked up here."""
    text = json.dumps({"host": "node7", "pid": 1, "since": "then", "machine": "node7", "born": "1", "token": "00"})
    (directory / FILE).write_text(json.dumps({**json.loads(text), **changes}))


def quick(directory, **options):
    return Lock(directory, **{"beat": 0.1, "stale": 0.4, "say": lambda text: None, **options})


def test_the_second_is_refused_and_told_of_the_first(tmp_path):
    with quick(tmp_path) as first:
        held = json.loads((tmp_path / FILE).read_text())
        who = rf"process {os.getpid()} on {socket.gethostname()}, since {held['since'][:10]}"
        with pytest.raises(BadInput, match=rf"is in use by another run: {who}.*--out"), quick(tmp_path):
            pass
        assert is_seen(tmp_path, first.token, within=0)
    assert list(tmp_path.iterdir()) == []
    with quick(tmp_path):
        pass


@pytest.mark.processes
def test_of_a_process_that_was_killed_it_is_taken_over_at_once(tmp_path, holder):
    with pytest.raises(BadInput, match=f"process {holder.pid} on"), quick(tmp_path, stale=60):
        pass
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    said, began = [], time.monotonic()
    with quick(tmp_path, stale=60, say=said.append) as lock:
        assert is_seen(tmp_path, lock.token, within=0)
    assert time.monotonic() - began < 5
    assert f"the run on {socket.gethostname()}" in said[0]


def test_a_number_that_another_process_has_now_is_not_the_holder(tmp_path):
    """As in a container that is started anew: all numbers are the same again."""
    with quick(tmp_path):
        text = (tmp_path / FILE).read_text()
    (tmp_path / FILE).write_text(json.dumps({**json.loads(text), "born": "1"}))
    with quick(tmp_path, stale=60) as lock:
        assert is_seen(tmp_path, lock.token, within=0)


def test_of_another_host_the_heartbeat_decides(tmp_path):
    of_another_host(tmp_path)
    began = time.monotonic()
    with quick(tmp_path):
        assert time.monotonic() - began >= 0.4
    of_another_host(tmp_path)
    os.utime(tmp_path / FILE, (0, 0))
    began = time.monotonic()
    with quick(tmp_path, stale=60):  # silent for long: no need to wait
        assert time.monotonic() - began < 5


def test_a_heartbeat_is_heard(tmp_path):
    """Whatever the other host's clock says."""
    of_another_host(tmp_path)
    end = threading.Event()

    def beat():
        for second in range(1000, 2000):
            if end.wait(0.1):
                return
            os.utime(tmp_path / FILE, (time.time() + second, time.time() + second))

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        with pytest.raises(BadInput, match="process 1 on node7, since then"), quick(tmp_path, stale=60):
            pass
    finally:
        end.set()
        thread.join()


def test_the_holder_beats(tmp_path):
    with quick(tmp_path):
        os.utime(tmp_path / FILE, (0, 0))
        end = time.monotonic() + 10
        while (tmp_path / FILE).stat().st_mtime == 0:
            assert time.monotonic() < end
            time.sleep(0.02)


def test_of_several_who_take_it_over_one_has_it(tmp_path):
    of_another_host(tmp_path)
    os.utime(tmp_path / FILE, (0, 0))
    gate, end, got = threading.Barrier(8), threading.Barrier(8), []

    def work():
        gate.wait()
        try:
            with quick(tmp_path, stale=60) as lock:
                got.append(lock)
                end.wait()
        except BadInput:
            end.wait()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 1


def test_a_newer_lock_stays(tmp_path):
    """Another took over between this one's look and its act."""
    of_another_host(tmp_path, token="22")
    quick(tmp_path)._inherit("what was judged")
    assert json.loads((tmp_path / FILE).read_text())["token"] == "22"
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_there_is_one_heir(tmp_path):
    """Whoever comes second leaves the lock alone; an heir that was killed before it could act is no heir for long."""
    of_another_host(tmp_path)
    judged = (tmp_path / FILE).read_text()
    heir = tmp_path / f".heir-of-{hashlib.sha256(judged.encode()).hexdigest()[:16]}"
    heir.touch()
    lock = quick(tmp_path)
    lock._inherit(judged)
    assert (tmp_path / FILE).read_text() == judged
    os.utime(heir, (0, 0))
    for _ in range(2):
        lock._inherit(judged)
    assert is_seen(tmp_path, lock.token, within=0)
    assert not heir.exists()


@pytest.mark.parametrize("text", ["", "[]", '{"host": '])
def test_what_is_no_lock_ages_like_one(tmp_path, text):
    (tmp_path / FILE).write_text(text)
    with quick(tmp_path) as lock:
        assert is_seen(tmp_path, lock.token, within=0)


def test_it_is_not_seen_where_it_is_not(tmp_path):
    assert not is_seen(tmp_path, b"x", within=0.1)
    of_another_host(tmp_path)
    assert not is_seen(tmp_path, b"x", within=0.1)


@pytest.mark.processes
def test_a_holder_that_lost_it_ends(tmp_path, holder):
    of_another_host(tmp_path)
    assert holder.wait(20) == 3
    assert (tmp_path / FILE).exists()


@pytest.mark.processes
def test_a_process_is_known_by_its_birth():
    assert locks._born(os.getpid()) == locks._born(os.getpid())
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert locks._born(other.pid) not in (None, locks._born(os.getpid()))
    other.stdin.close()
    os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)  # ended, and its parent has not asked
    assert locks._born(other.pid) is None
    other.wait()
    assert locks._born(other.pid) is None
