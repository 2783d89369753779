"""Processes that prepare batches ahead of the step: grain's, made to behave when runs are stopped or killed.

Batches come back as files in a folder of their own in shared memory, and only their names through grain's pipe. Grain
could send the arrays themselves, but a worker that dies in the middle of a long message leaves its reader waiting
forever, and one that overfills /dev/shm (64 MB in many containers) through a memory map dies by SIGBUS.
"""

import errno
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from sadist_jax.errors import BadInput

Batch = dict[str, np.ndarray]
_THREADS = 2  # that prepare items in this process when there are no workers; Pillow decodes without the GIL
_SHARED_MEMORY = "/dev/shm"
_ASKS = (signal.SIGINT, signal.SIGTERM)  # what asks the whole process group to stop
_AHEAD = 4  # items of a worker that can exist at a time: being made, in two queues, being read


class Items(Protocol):
    """A random-access source, as grain wants one."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Batch: ...


class Stream(Iterator[Batch]):
    """Iterator that ends its workers when it is closed, dropped, or when Python exits."""

    def __init__(self, iterator: Any, folder: str | None):
        self._open = [iterator]
        self._begun = folder is None  # threads need no birth
        self._end = weakref.finalize(self, _end, self._open, folder)

    def __next__(self) -> Batch:
        if not self._open:
            raise StopIteration
        item = next(self._open[0]) if self._begun else _next_unasked(self._open[0])
        self._begun = True
        return _read(item) if "path" in item else item

    def close(self) -> None:
        self._end()


def prefetch(source: Items, nbytes: int, workers: int) -> Stream:
    """source[0], source[1], ... prepared ahead by processes, or by threads when `workers` is 0.

    Args:
        source: has len() and gives dicts of arrays; sent to the workers by pickle.
        nbytes: of one item, about.
        workers: processes; each prepares whole items in turn and is at most three ahead.
    """
    import grain  # here, because importing grain imports jax, and the rest of data/ must work without it

    if workers < 0:
        raise BadInput(f"workers is {workers}; it must be 0 (threads of this process) or more")
    if not workers:
        options = grain.ReadOptions(num_threads=_THREADS, prefetch_buffer_size=_THREADS)
        return Stream(iter(grain.MapDataset.source(source).to_iter_dataset(options)), None)
    _parse_flags()
    folder = _make_folder(_AHEAD * workers * nbytes)
    items = grain.MapDataset.source(_Filed(source, folder))
    stream = items.to_iter_dataset(grain.ReadOptions(num_threads=0, prefetch_buffer_size=0))
    options = grain.MultiprocessingOptions(num_workers=workers)
    return Stream(iter(stream.mp_prefetch(options, worker_init_fn=partial(_settle, folder))), folder)


@dataclass(frozen=True)
class _Filed:
    """Items of a source as files: {"path", "names"}, the arrays one after the other in the file."""

    source: Items
    folder: str

    def __len__(self) -> int:
        return len(self.source)

    def __repr__(self) -> str:
        return repr(self.source)

    def __getitem__(self, index: int) -> dict[str, Any]:
        item = self.source[index]
        path = Path(self.folder, f"{os.getpid()}-{index}")
        try:
            with path.open("wb") as file:
                for value in item.values():
                    np.save(file, value, allow_pickle=False)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            path.unlink(missing_ok=True)
            message = f"{self.folder} is full, so no batch can be handed over; make room, or use fewer workers"
            raise BadInput(message) from None
        return {"path": str(path), "names": tuple(item)}


def _read(item: dict[str, Any]) -> Batch:
    with open(item["path"], "rb") as file:
        batch = {name: np.load(file, allow_pickle=False) for name in item["names"]}
    os.unlink(item["path"])
    return batch


def _next_unasked(iterator: Any) -> Any:
    """The first item, for which grain starts its workers, from a thread that blocks what asks to stop.

    Grain's threads and the workers inherit that, so nothing ends a worker before `_settle`, seconds after its birth.
    The caller's own thread hears signals all the while.
    """
    future: Future[Any] = Future()

    def begin() -> None:
        resource_tracker.ensure_running()  # starting it later would unblock the signals
        signal.pthread_sigmask(signal.SIG_BLOCK, _ASKS)
        try:
            future.set_result(next(iterator))
        except BaseException as error:  # the caller's, whatever it is
            future.set_exception(error)

    threading.Thread(target=begin, daemon=True, name="start-workers").start()
    return future.result()


def _end(open_iterators: list[Any], folder: str | None) -> None:
    while open_iterators:
        open_iterators.pop().close()
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)


def _make_folder(nbytes: int) -> str:
    """New folder for items: in shared memory where they take less than half of what is free, else on disk.

    Removes folders of processes that are gone: a machine that kills all processes of a run at once leaves nobody to.
    """
    base = Path(_SHARED_MEMORY)
    if not base.is_dir() or not os.access(base, os.W_OK) or shutil.disk_usage(base).free < 2 * nbytes:
        base = Path(tempfile.gettempdir())
    for old in base.glob("sadist-*-*"):
        pid = old.name.split("-")[1]
        if pid.isdigit() and not Path("/proc", pid).exists() and Path("/proc").is_dir():
            shutil.rmtree(old, ignore_errors=True)
    return tempfile.mkdtemp(prefix=f"sadist-{os.getpid()}-", dir=base)


def _parse_flags() -> None:
    """Grain reads its absl flags before it starts workers, and refuses where `absl.app.run` has not parsed them."""
    flags = sys.modules.get("absl.flags")
    if flags is not None and not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()


def _settle(folder: str, worker: int, workers: int) -> None:
    """First act of a worker process: its life is its parent's.

    A terminal's Ctrl-C and a scheduler's SIGTERM reach the whole process group; what is to be done then is the parent's
    business, to whom dead workers would look like a failure. And a parent that was killed (SIGKILL) cannot end them.
    """
    for each in _ASKS:
        signal.signal(each, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _ASKS)  # blocked since birth; what came meanwhile is ignored, too
    parent = multiprocessing.parent_process()

    def follow() -> None:
        if parent is not None:
            parent.join()
        shutil.rmtree(folder, ignore_errors=True)
        os._exit(0)

    threading.Thread(target=follow, daemon=True, name="follow-parent").start()
