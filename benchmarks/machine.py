"""The machine that something was timed on, without its name, and how busy others kept it meanwhile."""

import os
import platform
import time
from pathlib import Path


def describe() -> str:
    """Processor and number of its cores that may be used."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return f"{model or platform.machine()}, {available()} cores"


def available() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Meter:
    """Measures what other processes take of the machine from its making on."""

    def __init__(self):
        self._begin = self._now()

    def others(self) -> float | None:
        """Mean number of cores kept busy by others than this process and its children; None where Linux is not there.

        A child counts once it has ended.
        """
        now = self._now()
        if self._begin is None or now is None:
            return None
        clock, busy, own = (end - begin for end, begin in zip(now, self._begin, strict=True))
        return max(0.0, (busy - own) / clock)

    @staticmethod
    def _now() -> tuple[float, float, float] | None:
        """Seconds: the clock, all cores' work, this process and its ended children."""
        try:
            fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
        except OSError:
            return None
        user, nice, system, _, _, irq, softirq, steal = map(int, fields[:8])
        times = os.times()
        own = times.user + times.system + times.children_user + times.children_system
        busy = (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
        return time.monotonic(), busy, own
