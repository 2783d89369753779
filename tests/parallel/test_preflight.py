"""The roll call over real sockets of this machine; a thread is a process."""

import contextlib
import json
import socket
import threading
import time

import jax
import pytest

from sadist_jax.errors import BadInput, ClusterProblem
from sadist_jax.parallel import preflight
from sadist_jax.parallel.cluster import Member

NOWHERE = "no-such-host.invalid"  # a name that RFC 2606 keeps from being given


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(preflight, "_PAUSE", 0.02)
    monkeypatch.setattr(preflight, "_HURRY", 0.3)


@pytest.fixture
def port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def called(members, seconds=5.0) -> list[str | None]:
    """What stopped each of the members, None where nothing did."""
    ends: list[str | None] = ["did not end"] * len(members)

    def one(place, member):
        try:
            ends[place] = preflight.roll_call(member, seconds)
        except ClusterProblem as problem:
            ends[place] = str(problem)

    threads = [threading.Thread(target=one, args=pair, daemon=True) for pair in enumerate(members)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    return ends


def ours(port, processes, *which, host="localhost"):
    return [Member(host, port, processes, process) for process in which]


def refused(member, seconds=0.1) -> str:
    begun = time.monotonic()
    with pytest.raises(ClusterProblem) as problem:
        preflight.roll_call(member, seconds)
    assert time.monotonic() - begun < 5
    return str(problem.value)


def test_all_who_come_are_let_through_whoever_is_first(port):
    assert called(ours(port, 4, 3, 1, 2, 0)) == [None] * 4
    assert called(ours(port, 2, 0, 1)) == [None] * 2  # the port is free again at once


def test_a_name_that_nobody_knows():
    for process in (0, 1):
        assert f"the name {NOWHERE} cannot be resolved" in refused(Member(NOWHERE, 1234, 2, process))


def test_process_0_has_not_started(port):
    said = refused(Member("localhost", port, 2, 1))
    assert f"process 1 of 2 (on {preflight.platform.node()}) found no process 0 at localhost:{port} in 0.1 s" in said
    assert "the connection is refused; see whether process 0 has started" in said


def test_the_port_is_taken(port):
    with socket.create_server(("127.0.0.1", port)):
        assert f"port {port} is taken, by another program or a second process 0" in refused(ours(port, 2, 0)[0])


def test_process_0_is_on_another_machine_than_the_address(port):
    said = refused(ours(port, 2, 0, host="240.0.0.1")[0])  # reserved, so nobody's
    assert f"240.0.0.1:{port} does not lead there" in said


def test_an_address_that_leads_here_on_a_detour_will_do(port, monkeypatch):
    monkeypatch.setattr(preflight, "_is_own", lambda host: False)
    assert called(ours(port, 2, 0, 1)) == [None] * 2


@pytest.mark.parametrize("says", [b"", b"220 mail\r\n", b"[1]\n", b'{"x": 1}\n', b"\0" * 70_000])
def test_another_program_listens_there(port, says):
    def serve():
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                connection.sendall(says)
                connection.recv(4096)

    with socket.create_server(("127.0.0.1", port)) as server:
        threading.Thread(target=serve, daemon=True).start()
        assert "another program, or a run that is already under way" in refused(ours(port, 2, 1, host="127.0.0.1")[0])
        server.shutdown(socket.SHUT_RDWR)


def test_a_program_that_says_nothing_is_not_waited_for(port):
    with socket.create_server(("127.0.0.1", port)):
        assert "another program, or a run that" in refused(ours(port, 2, 1, host="127.0.0.1")[0])


def test_who_is_missing_is_named_to_all(port):
    ends = called(ours(port, 4, 0, 2), seconds=0.5)
    assert ends[0] == ends[1]
    assert f"of 4 processes, number 1, 3 did not come to localhost:{port} in 0.5 s" in ends[0]


def test_many_missing_are_counted(port):
    (end,) = called(ours(port, 100, 0), seconds=0.1)
    assert "number 1, 2, 3, 4, 5, 6, 7, 8 and 91 more did not come" in end


def test_two_of_one_number_are_told_so(port):
    ends = called(ours(port, 3, 0, 1, 1))
    assert len(set(ends)) == 1
    assert "two say that they are process 1, on" in ends[0]


def test_who_disagrees_about_the_number_is_told_so(port):
    ends = called([*ours(port, 3, 0), *ours(port, 2, 1)])
    assert len(set(ends)) == 1
    assert "is started as one of 2, process 0" in ends[0]


def greet(port, **changes):
    """A connection that has said it is process 1 of 2."""
    connection = socket.create_connection(("127.0.0.1", port))
    who = {"process": 1, "processes": 2, "host": "b", "jax": jax.__version__, **changes}
    connection.sendall(json.dumps(who).encode() + b"\n")
    return connection


def listening(member):
    """The list that gets how process 0 ended, once its roll call has begun."""
    ends = []
    thread = threading.Thread(target=lambda: ends.extend(called([member])), daemon=True)
    thread.start()
    while True:
        with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", member.port)):
            return ends, thread  # and this connection is a stranger who leaves
        time.sleep(0.01)


def test_another_version_of_jax_is_refused(port):
    ends, thread = listening(*ours(port, 2, 0))
    with greet(port, jax="0.0.1"):
        thread.join(10)
    assert "process 1 (on b) runs jax 0.0.1, process 0" in ends[0]


def test_who_came_and_left_must_come_again(port):
    ends, thread = listening(*ours(port, 3, 0))
    greet(port, processes=3).close()
    time.sleep(0.1)
    assert called(ours(port, 3, 2, 1)) == [None, None]  # 1 is no double
    thread.join(10)
    assert ends == [None]


@pytest.mark.parametrize("text", ["soon", "0", "-1", "nan", "inf"])
def test_patience_is_a_number_of_seconds(monkeypatch, text):
    monkeypatch.setenv("SADIST_PATIENCE", text)
    with pytest.raises(BadInput, match=f"SADIST_PATIENCE must be a number of seconds above 0, not {text!r}"):
        preflight.patience()


def test_patience_has_a_default(monkeypatch):
    monkeypatch.delenv("SADIST_PATIENCE", raising=False)
    assert preflight.patience() == 300
