"""A run that hangs says where, and ends with exit code 70, so that whoever started it can start it again.

Collectives wait for ever for a peer that is stuck, and file systems for a server that is gone; neither raises.
"""

import faulthandler
import os
import threading
import time
from pathlib import Path
from typing import Self

from sadist_jax.errors import HANG, note_exit

COMPILE = 4  # times the limit, for what is compiled first
_TICK = 1.0  # seconds
_WRITING = 10.0  # seconds that the report may take: the storage may be what hangs


class Watchdog:
    """While the block runs: when no `beat` comes for `seconds`, the stacks of all threads go to `report` and stderr.

    Then the process ends at once. 0 seconds: never. Time in which the process is suspended (SIGSTOP, a laptop's lid)
    does not count. The first limit is COMPILE times as long.
    """

    def __init__(self, seconds: float, report: Path):
        self.seconds, self.report = seconds, report
        self._beats, self._limit = 0, COMPILE * seconds
        self._end = threading.Event()

    def __enter__(self) -> Self:
        if self.seconds:
            threading.Thread(target=self._watch, daemon=True, name="watchdog").start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()

    def beat(self) -> None:
        """Something has ended."""
        self._limit = self.seconds
        self._beats += 1

    def expect_compile(self) -> None:
        """Something has ended, and what comes next is compiled first."""
        self._limit = COMPILE * self.seconds
        self._beats += 1

    def _watch(self) -> None:
        tick = min(_TICK, self.seconds / 4)
        heard, quiet, before = self._beats, 0.0, time.monotonic()
        while not self._end.wait(tick):
            now = time.monotonic()
            quiet += min(now - before, 2 * tick)  # more has passed only where the whole process stood still
            before = now
            if heard != self._beats:
                heard, quiet = self._beats, 0.0
            elif quiet > self._limit:
                self._bite()

    def _bite(self) -> None:
        why = f"sadist: nothing has ended for {self._limit:g} s, where every thread is stands in {self.report}\n"
        os.write(2, why.encode())
        faulthandler.dump_traceback(2)
        writer = threading.Thread(target=self._write, daemon=True)
        writer.start()
        writer.join(_WRITING)
        note_exit(HANG)
        os._exit(HANG)

    def _write(self) -> None:
        with self.report.open("w") as file:
            faulthandler.dump_traceback(file)
