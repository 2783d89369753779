"""One run at a time in a directory: a file that says who is at work there, and keeps a heartbeat.

It needs no locks of the file system, which network drives may lack: only that of several who make the same file one
is first. The heartbeat is the file's time of change, compared with that of a file made now: both are the file server's.
"""

import datetime
import hashlib
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from sadist_jax.errors import BadInput, ClusterProblem, note_exit
from sadist_jax.weights.files import replacing, write_once

FILE = "running.json"
BEAT, STALE = 10.0, 60.0  # seconds between heartbeats; without one for so long, the holder is gone


class Lock:
    """The directory is this process's while the block runs.

    A holder on this machine whose process is gone, and one elsewhere without a heartbeat for `stale` seconds, lose it
    (of the latter it may take so long to know); a holder that finds its lock taken over ends at once.

    Raises:
      BadInput: on entering, another run is at work there.
    """

    def __init__(
        self, directory: Path, beat: float = BEAT, stale: float = STALE, say: Callable[[str], None] = print
    ) -> None:
        self.path, self.token = directory / FILE, secrets.token_bytes(16)
        self._beat, self._stale, self._say = beat, stale, say
        since = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
        who = {"host": socket.gethostname(), "pid": os.getpid(), "since": since}
        self._text = json.dumps({**who, "machine": _machine(), "born": _born(os.getpid()), "token": self.token.hex()})
        self._end = threading.Event()

    def __enter__(self) -> Self:
        while (found := write_once(self.path, self._text)) != self._text:
            holder = _parse(found)
            if self._is_at_work(holder):
                raise BadInput(
                    f"{self.path.parent} is in use by another run: process {holder.get('pid', '?')} on "
                    f"{holder.get('host', 'an unknown host')}, since {holder.get('since', 'an unknown time')}; wait "
                    "for it, end it, or choose another directory with --out"
                )
            self._say(f"the run on {holder.get('host', 'an unknown host')} that held {self.path.parent} is gone")
            self._inherit(found)
        threading.Thread(target=self._keep, daemon=True, name="lock").start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        with suppress(OSError):
            if _read(self.path) == self._text:
                self.path.unlink()

    def _is_at_work(self, holder: Mapping[str, Any]) -> bool:
        if holder.get("machine") == _machine():
            return _born(holder["pid"]) == holder["born"]
        last = _changed(self.path)
        while last is not None and _now(self.path.parent) - last <= self._stale:
            time.sleep(self._beat / 4)
            if (newer := _changed(self.path)) != last:
                return newer is not None
        return False

    def _inherit(self, judged: str) -> None:
        """Put this lock in the place of the one that was judged: as its only heir, and if it is still there."""
        heir = self.path.with_name(f".heir-of-{hashlib.sha256(judged.encode()).hexdigest()[:16]}")
        try:
            heir.touch(exist_ok=False)
        except FileExistsError:  # another is about to; or has been killed in these few milliseconds
            if (began := _changed(heir)) is not None and _now(heir.parent) - began > self._stale:
                heir.unlink(missing_ok=True)
            time.sleep(self._beat / 4)
            return
        try:
            if _read(self.path) == judged:  # else it has ended well after all, or has been inherited
                with replacing(self.path) as file:
                    file.write(self._text.encode())
        finally:
            heir.unlink(missing_ok=True)

    def _keep(self) -> None:
        while not self._end.wait(self._beat):
            with suppress(OSError):  # a server that does not answer now may do so at the next beat
                if (found := _read(self.path)) == self._text:
                    os.utime(self.path)
                elif found is not None and not self._end.is_set():
                    os.write(2, f"sadist: another run has taken over {self.path.parent}; this one ends\n".encode())
                    note_exit(ClusterProblem.exit_code)
                    os._exit(ClusterProblem.exit_code)


def is_seen(directory: Path, token: bytes, within: float = 15.0) -> bool:
    """Whether the lock with this token can be read here; another host's file may take seconds to appear."""
    end = time.monotonic() + within
    while True:
        with suppress(OSError):
            if _parse((directory / FILE).read_text()).get("token") == token.hex():
                return True
        if time.monotonic() > end:
            return False
        time.sleep(0.1)


def _read(path: Path) -> str | None:
    with suppress(FileNotFoundError):
        return path.read_text()
    return None


def _parse(text: str) -> dict[str, Any]:
    """What is no lock says nothing, and has no heartbeat either."""
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _machine() -> str:
    """Where a process's number means the same: this boot of this machine, in this container."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    inside = Path("/proc/self/ns/pid")
    known = [boot.read_text().strip()] if boot.exists() else []
    return " ".join([socket.gethostname(), *known, *([os.readlink(inside)] if inside.exists() else [])])


def _born(pid: int) -> str | None:
    """When the process of this number began, in the kernel's ticks, since numbers are used again; None: it is gone."""
    stat = Path("/proc", str(pid), "stat")
    with suppress(OSError):
        state, *fields = stat.read_text().rpartition(")")[2].split()
        return None if state == "Z" else fields[18]
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:  # somebody else's, and alive
        pass
    return ""


def _changed(path: Path) -> float | None:
    """Opened, since a network drive's client may remember old times of what it does not open; None: it is gone."""
    try:
        with path.open() as file:
            return os.fstat(file.fileno()).st_mtime
    except FileNotFoundError:
        return None


def _now(directory: Path) -> float:
    """By the clock of whoever stores the directory."""
    path = directory / f".{secrets.token_hex(8)}.now"
    try:
        path.touch()
        return path.stat().st_mtime
    finally:
        path.unlink(missing_ok=True)
