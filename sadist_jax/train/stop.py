"""SIGTERM, by which schedulers and clouds end a job: noted at once, obeyed where nothing is lost, exit code 75.

The same command then goes on. Nothing here knows JAX, so that jobs may note a SIGTERM before they import it.
"""

import os
import shlex
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, ParamSpec, Self, TypeVar

from sadist_jax.errors import Preempted

_SAME = 1.0  # seconds in which another signal is the same one, come by another way
_NOTED = b"sadist: SIGTERM: ends as soon as nothing is lost; a second one, or Ctrl-C, ends at once\n"
P = ParamSpec("P")
T = TypeVar("T")


class Asked(Exception):
    """Asked to stop in the middle of something that is to be left undone: the loop of the run catches it."""


class Stop:
    """`asked`: whether a SIGTERM has come while the block runs. A second one, or Ctrl-C after one, ends at once.

    Within a second it is no second one: what ends a whole tree of processes (systemd, Slurm) reaches this one twice
    where its parent hands the signal on.
    In a thread that is not the main one, which Python gives no signals, nothing is ever asked.
    """

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[signal.Signals, Any] = {}
        self._warned = self._at_once = False

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)}
        self.install()
        return self

    def __exit__(self, *_: object) -> None:
        for each, handler in self._before.items():
            signal.signal(each, handler)

    def install(self) -> None:
        """Take the signal; once more after others may have: `jax.distributed.initialize` does, unseen, in C++."""
        if self._before and not self.asked:
            signal.signal(signal.SIGTERM, self._note)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Inside the block a SIGTERM raises Preempted there and then: for waiting before there is anything to lose."""
        self._at_once = True
        try:
            yield
        finally:
            self._at_once = False

    def keep(self) -> None:
        """Take the signal back where a library has taken it since, and warn of it once."""
        if not self._before or self.asked or (found := signal.getsignal(signal.SIGTERM)) == self._note:
            return
        self.install()
        if not self._warned:
            self._warned = True
            name = getattr(found, "__qualname__", None) or str(found)
            warnings.warn(
                f"something has taken over SIGTERM ({name}); it is taken back, so that the run is saved when it comes",
                stacklevel=2,
            )

    def preempted(self, where: str) -> Preempted:
        """What ends the job: it says where it stopped, and how to go on."""
        return Preempted(f"asked to stop (SIGTERM) {where}; to go on: {command()}")

    def before_each(self, piece: Callable[P, T]) -> Callable[P, T]:
        """`piece` of a job that goes on piece by piece; once asked to stop, it raises Preempted and does nothing."""

        def begin(*args: P.args, **kwargs: P.kwargs) -> T:
            if self.asked:
                raise self.preempted("between two pieces of work; what is done is kept")
            return piece(*args, **kwargs)

        return begin

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        _handle_both(signal.SIG_IGN)
        os.write(2, _NOTED)  # print() might be in the middle of itself
        time.sleep(_SAME)  # here, since who comes back to compiled code may hang there before any timer is heard
        _handle_both(signal.SIG_DFL)  # so that the second ends even what is deep in compiled code
        if self._at_once:
            raise self.preempted("before it began")


def _handle_both(how: signal.Handlers) -> None:
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, how)


def command() -> str:
    """The command line of this process, as a person would write it."""
    if Path(sys.argv[0]).stem == "sadist" or Path(sys.argv[0]).parent.name == "sadist_jax":
        return shlex.join(["sadist", *sys.argv[1:]])
    return shlex.join(sys.orig_argv)
