"""The process of one contender: loads, warms up, and then waits for its turns.

    python -m benchmarks.contender MODULE:FUNCTION FOLDER OPTIONS OUTPUTS CORES

Each line on stdin is a number of repetitions, answered on stdout by a `Turn` as JSON, or "memory", answered by a
`Memory`. Whatever else is printed goes to stderr. The end of stdin is the end.
"""

import contextlib
import ctypes
import gc
import importlib
import importlib.metadata
import json
import os
import platform
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

WARM = 2  # runs before the first turn; the first of them compiles
DISTRIBUTIONS = {"jax": "jax", "jaxlib": "jaxlib", "torch": "torch", "segment_anything": "segment-anything"}
DISTRIBUTIONS |= {"transformers": "transformers", "keras": "keras", "keras_hub": "keras-hub"}


class Turn(NamedTuple):
    """One turn, per repetition: seconds of the clock, and seconds of all processors together."""

    wall: float
    cpu: float


class Memory(NamedTuple):
    """Resident bytes: before a run (libraries, weights, inputs), and at most during it."""

    rest: int
    peak: int


def measure(
    run: Callable[[], object],
    repeat: int,
    wall: Callable[[], float] = time.perf_counter,
    cpu: Callable[[], float] = time.process_time,
) -> Turn:
    """Run `repeat` times. `wall`, `cpu`: clocks; the latter counts all threads of the process."""
    start = wall(), cpu()
    for _ in range(repeat):
        run()
    end = wall(), cpu()
    return Turn((end[0] - start[0]) / repeat, (end[1] - start[1]) / repeat)


def memory(run: Callable[[], object]) -> Memory:
    """Run once, after giving back what loading, compiling and earlier runs have left in the allocator.

    Where the kernel cannot forget the past peak (not Linux), it is that of the whole life of the process.
    """
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)  # of glibc
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    rest = _status("VmRSS")
    run()
    unit = 1 if sys.platform == "darwin" else 1024
    return Memory(rest, _status("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)


def _status(field: str) -> int:
    """A size in bytes from /proc/self/status; 0 where there is none."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:")), 0)


def versions() -> dict[str, str]:
    """Of Python and of the frameworks that this process has loaded."""
    loaded = {name: importlib.metadata.version(d) for name, d in DISTRIBUTIONS.items() if name in sys.modules}
    return {"python": platform.python_version()} | loaded


def main(where: str, folder: str, options: str, outputs: str, cores: str) -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    if hasattr(os, "sched_setaffinity"):  # XLA and OpenMP make as many threads as there are cores to run on
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(cores)])

    def answer(value: object) -> None:
        print(json.dumps(value), file=answers, flush=True)

    module, _, function = where.partition(":")
    op = getattr(importlib.import_module(module), function)(Path(folder), **json.loads(options))
    np.savez(outputs, **op.outputs())
    for _ in range(WARM):
        op.run()
    answer(versions())
    for line in sys.stdin:
        asked = line.strip()
        answer((memory(op.run) if asked == "memory" else measure(op.run, int(asked)))._asdict())


if __name__ == "__main__":
    main(*sys.argv[1:])
