"""The processes of one start of a run on this machine: their output, their signals, how each of them ended."""

import ctypes
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TextIO

from sadist_jax.data.names import printable
from sadist_jax.errors import BadInput, ClusterProblem, Preempted

INTERRUPTED = 130
STOPPED = (0, Preempted.exit_code)  # a rank that ends so has not failed
_TAIL = 20  # lines shown of a failed rank
_PR_SET_PDEATHSIG = 1  # of Linux, <sys/prctl.h>


class Rank(NamedTuple):
    """What is run: its words, and what is set in its environment beside what this process has."""

    command: Sequence[str]
    environment: Mapping[str, str]


class Ranks:
    """Started on construction, rank i with its output appended to `logs`/rank-i.log; rank 0's is shown, too."""

    def __init__(self, ranks: Sequence[Rank], logs: Path):
        self.ended: dict[int, int] = {}  # {rank: how it ended}, in the order in which they did
        self._logs = [logs / f"rank-{i}.log" for i in range(len(ranks))]
        self._begin = [log.stat().st_size if log.exists() else 0 for log in self._logs]
        self._logs[0].touch()
        self._shown: TextIO = self._logs[0].open(encoding="utf-8", errors="replace")
        self._shown.seek(self._begin[0])
        self._processes: list[subprocess.Popen] = []
        try:
            for rank, log in zip(ranks, self._logs, strict=True):
                self._processes.append(_start(rank, log))
        except BadInput:
            self.close()
            raise

    def poll(self) -> bool:
        """Take note of who has ended, show what rank 0 printed; whether any is still running."""
        for i, process in enumerate(self._processes):
            if i not in self.ended and (code := process.poll()) is not None:
                self.ended[i] = code
        show(self._shown.read())
        return len(self.ended) < len(self._processes)

    def signal(self, number: int) -> None:
        """Send it to every rank that is running; their data workers know what to do when the rank ends."""
        for i in range(len(self._processes)):
            if i not in self.ended:
                self._processes[i].send_signal(number)

    def kill(self) -> None:
        """End every rank that is running, and what it has started, at once."""
        for i, process in enumerate(self._processes):
            if i not in self.ended and process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)

    def failed(self) -> int | None:
        """The first rank that ended as none should; None if there is none."""
        return next((i for i, code in self.ended.items() if _read(code) not in STOPPED), None)

    def last_words(self, rank: int) -> str:
        """How it ended, and where that was not shown, the last lines that it printed since this start."""
        code = self.ended[rank]
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        if rank == 0:
            return f"process 0 {how}"
        with self._logs[rank].open(encoding="utf-8", errors="replace") as log:
            log.seek(self._begin[rank])
            return "\n".join([f"process {rank} {how}; its last lines:", *log.read().splitlines()[-_TAIL:]])

    def close(self) -> None:
        """End what is left."""
        self.kill()
        for process in self._processes:
            process.wait()
        self._shown.close()


def show(text: str) -> None:
    """Print it, for as long as somebody looks: a terminal or pipe that has closed is no reason to end a run."""
    try:
        sys.stdout.write(printable(text))
        sys.stdout.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())  # for what is still in the buffer, and all that comes
        os.close(nowhere)


def _start(rank: Rank, log: Path) -> subprocess.Popen:
    """In a group of its own: a terminal's Ctrl-C reaches it through this process alone, once."""
    with log.open("ab") as output, warnings.catch_warnings():
        # JAX, where it has been started in this process, warns of a fork; the child only asks the kernel
        warnings.simplefilter("ignore")
        try:
            return subprocess.Popen(
                rank.command,
                env={**os.environ, **rank.environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_dies_with(os.getpid()),
            )
        except OSError as error:
            raise BadInput(f"{rank.command[0]} cannot be run ({error.strerror}); correct --prefix") from None


def _dies_with(parent: int) -> Callable[[], None] | None:
    """What has a child get SIGTERM when this process has gone, were it by SIGKILL; Linux alone can.

    More exactly, when the thread has that started it: that is the main thread, which takes the signals too.
    """
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl

    def arrange() -> None:
        prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM))
        if os.getppid() != parent:  # it went before
            os._exit(128 + signal.SIGTERM)

    return arrange


def exit_code(ended: Mapping[int, int]) -> int:
    """One exit code for all ranks, from {rank: code} in the order in which they ended.

    Bad input of one is that of all. Otherwise what the first of them failed with, because the others were ended for it
    or lost their peer; a rank that died by a signal is a lost one, and JAX aborts (134) those that miss a peer.
    """
    codes = [_read(code) for code in ended.values()]
    if BadInput.exit_code in codes:
        return BadInput.exit_code
    failed = [code for code in codes if code not in STOPPED]
    return failed[0] if failed else max(codes)


def _read(code: int) -> int:
    """A rank's exit code; below 0: it died by that signal. Who dies by SIGTERM has not saved, or it would say so."""
    if code in (INTERRUPTED, -signal.SIGINT):
        return INTERRUPTED
    return ClusterProblem.exit_code if code < 0 or code > 128 else code
