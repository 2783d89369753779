"""Before JAX connects the processes: a roll call, which says in one sentence what is wrong, to all of them alike.

JAX ends in C++ with a stack where process 0 cannot be reached or somebody does not come. So process 0 first listens at
the same address; every other process connects, says in a line of JSON who it is, and gets a line back once all are
there, or the sentence that all of them then stop with.
"""

import contextlib
import dataclasses
import errno
import json
import os
import platform
import socket
import time
from collections.abc import Mapping
from typing import Any, BinaryIO

import jax

from sadist_jax.errors import BadInput, ClusterProblem
from sadist_jax.parallel.cluster import COORDINATOR, Member

PATIENCE = "SADIST_PATIENCE"
_PAUSE = 0.5  # seconds between attempts
_HURRY = 5.0  # seconds for one connection, and for a line that is under way
_LONGEST = 2**16  # bytes of a line
_LISTED = 8  # processes that a sentence names
_INTRODUCTION = {"process", "processes", "host", "jax"}  # what a process says of itself


def patience() -> float:
    """Seconds that a process waits for the others at the start: SADIST_PATIENCE, or 300."""
    text = os.environ.get(PATIENCE, "300")
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise BadInput(f"the environment variable {PATIENCE} must be a number of seconds above 0, not {text!r}")
    return seconds


def roll_call(member: Member, seconds: float) -> None:
    """Return when all processes have come to the coordinator's address. Every process must call it.

    It ends within `seconds`, for a process that has reached process 0 within twice that.

    Raises:
      ClusterProblem: the address cannot be resolved, reached or listened at; somebody does not come; two say they are
        the same process; they disagree about how many they are, or run different versions of JAX.
    """
    (_call if member.process == 0 else _answer)(member, seconds)


@dataclasses.dataclass(frozen=True)
class _Peer:
    """A process that has come: its connection, and what it said."""

    connection: socket.socket
    said: Mapping[str, Any]

    def waits(self) -> bool:
        """Whether it is still there."""
        try:
            return self.connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) != b""
        except BlockingIOError:
            return True
        except OSError:
            return False


def _call(member: Member, seconds: float) -> None:
    """Process 0's part."""
    deadline = time.monotonic() + seconds
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(_listen(member, deadline))
        _must_lead_here(member, deadline, seconds)
        present: dict[int, _Peer] = {}
        wrong = None
        while wrong is None and len(present) < member.processes - 1:
            peer = _welcome(listener, stack)
            if peer is not None:
                wrong = _objection(member, peer.said, present)
                present[peer.said["process"] if wrong is None else 0] = peer  # 0: it is told too, beside its double
            present = {process: peer for process, peer in present.items() if peer.waits()}
            if wrong is None and time.monotonic() > deadline and len(present) < member.processes - 1:
                wrong = _missing(member, present, seconds)
        for peer in present.values():
            with contextlib.suppress(OSError):
                peer.connection.sendall(_line({"wrong": wrong}))
    if wrong is not None:
        raise ClusterProblem(wrong)


def _welcome(listener: socket.socket, stack: contextlib.ExitStack) -> _Peer | None:
    """The next who comes, its connection kept open by `stack`; None where nobody, or a stranger, came."""
    listener.settimeout(_PAUSE)
    try:
        connection = stack.enter_context(listener.accept()[0])
    except TimeoutError:
        return None
    with contextlib.suppress(OSError), connection.makefile("rb") as lines:
        said = _hear(lines, connection, _HURRY)
        if said.keys() >= _INTRODUCTION:
            connection.sendall(_line({"welcome": True}))
            connection.setblocking(False)  # `waits` looks and does not wait
            return _Peer(connection, said)
    connection.close()
    return None


def _answer(member: Member, seconds: float) -> None:
    """Everybody else's part."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            said = _ask(member, min(_HURRY, max(deadline - time.monotonic(), _PAUSE)), seconds)
            reason = "what answers there is another program, or a run that is already under way"
        except OSError as error:
            said, reason = {}, _reason(member, error)
        if said.get("wrong") is not None:
            raise ClusterProblem(said["wrong"])
        if "wrong" in said:
            return
        if time.monotonic() > deadline:
            raise ClusterProblem(
                f"process {member.process} of {member.processes} (on {platform.node()}) found no process 0 at "
                f"{member.coordinator} in {seconds:g} s: {reason}"
            )
        time.sleep(_PAUSE)


def _ask(member: Member, hurry: float, seconds: float) -> dict[str, Any]:
    """Process 0's verdict, {"wrong": sentence or None}, or {} from somebody else; OSError where nobody listens."""
    with (
        socket.create_connection((member.host, member.port), timeout=hurry) as connection,
        connection.makefile("rb") as lines,
        contextlib.suppress(OSError),
    ):
        who = {"process": member.process, "processes": member.processes}
        connection.sendall(_line({**who, "host": platform.node(), "jax": jax.__version__}))
        if "welcome" in _hear(lines, connection, 2 * _HURRY):
            return _hear(lines, connection, seconds + _HURRY)  # process 0 has begun to wait before this
    return {}


def _listen(member: Member, deadline: float) -> socket.socket:
    """A socket at the coordinator's port, on all addresses, as JAX will have one."""
    deadline = min(deadline, time.monotonic() + 10)  # a run that has just ended may still hold it
    both = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if both else socket.AF_INET
    while True:
        try:
            return socket.create_server(("", member.port), family=family, backlog=1024, dualstack_ipv6=both)
        except OSError as error:
            taken = error.errno == errno.EADDRINUSE
            if not taken or time.monotonic() > deadline:
                why = "is taken, by another program or a second process 0" if taken else f"is refused ({error})"
                raise ClusterProblem(
                    f"process 0 cannot listen on {platform.node()}: port {member.port} {why}; give hosts.coordinator "
                    f"({COORDINATOR}) another port"
                ) from None
        time.sleep(_PAUSE)


def _must_lead_here(member: Member, deadline: float, seconds: float) -> None:
    """Raises ClusterProblem where the others cannot find process 0 under the coordinator's name."""
    while True:
        try:
            if _is_own(member.host):
                return
            hurry = min(_HURRY, max(deadline - time.monotonic(), _PAUSE))
            with socket.create_connection((member.host, member.port), timeout=hurry):
                return  # an address that is translated on its way, such as a service's
        except OSError as error:
            reason = _reason(member, error)
        if time.monotonic() > deadline:
            raise ClusterProblem(
                f"process 0 runs on {platform.node()}, and {member.coordinator} does not lead there, tried for "
                f"{seconds:g} s: {reason}"
            )
        time.sleep(_PAUSE)


def _is_own(host: str) -> bool:
    """Whether one of a name's addresses is this machine's. Raises OSError where it has none."""
    for family, kind, protocol, _, address in socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM):
        with contextlib.suppress(OSError), socket.socket(family, kind, protocol) as probe:
            probe.bind(address)
            return True
    return False


def _reason(member: Member, error: OSError) -> str:
    """What an error of the network means, and what to do."""
    address = f"hosts.coordinator ({COORDINATOR})"
    if isinstance(error, socket.gaierror):
        return f"the name {member.host} cannot be resolved ({error.strerror}); give {address} one that every host knows"
    if isinstance(error, ConnectionRefusedError):
        return "the connection is refused; see whether process 0 has started, on that host and with that port"
    if isinstance(error, TimeoutError):
        return f"nothing answers; see whether {address} is right, and whether a firewall closes that port"
    return f"{error.strerror or error}; see whether {address} is right, and whether the hosts share a network"


def _objection(member: Member, said: Mapping[str, Any], present: Mapping[int, _Peer]) -> str | None:
    """What is wrong with who has just come."""
    process, host = said["process"], said["host"]
    if said["processes"] != member.processes:
        return (
            f"process {process} (on {host}) is started as one of {said['processes']}, process 0 (on {platform.node()}) "
            f"as one of {member.processes}; give all of them the same hosts.processes"
        )
    if said["jax"] != jax.__version__:
        return (
            f"process {process} (on {host}) runs jax {said['jax']}, process 0 (on {platform.node()}) jax "
            f"{jax.__version__}; install the same everywhere"
        )
    if process in present and present[process].waits():
        return (
            f"two say that they are process {process}, on {present[process].said['host']} and on {host}; give each a "
            "hosts.process of its own, and runs at the same time ports of their own"
        )
    return None


def _missing(member: Member, present: Mapping[int, _Peer], seconds: float) -> str:
    names = [str(process) for process in range(1, member.processes) if process not in present]
    named = ", ".join(names[:_LISTED]) + (f" and {len(names) - _LISTED} more" if len(names) > _LISTED else "")
    return (
        f"of {member.processes} processes, number {named} did not come to {member.coordinator} in {seconds:g} s; see "
        f"what stopped them, or raise {PATIENCE} where hosts start late"
    )


def _line(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content).encode() + b"\n"


def _hear(lines: BinaryIO, connection: socket.socket, seconds: float) -> dict[str, Any]:
    """The next line of JSON, {} where it is none; OSError where none comes in time."""
    connection.settimeout(seconds)
    try:
        content = json.loads(lines.readline(_LONGEST))
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}
