"""Processes that prepare batches ahead of the step: grain's, made to behave when runs are stopped or killed."""

import multiprocessing
import multiprocessing.util
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from sadist_jax.errors import BadInput

Batch = dict[str, np.ndarray]
_THREADS = 2  # that prepare items in this process when there are no workers; Pillow decodes without the GIL
_SHARED_MEMORY = "/dev/shm"
_LAST_WORDS = 0.5  # seconds that a worker has to hand over what it has put into a pipe when it ends


class Items(Protocol):
    """A random-access source, as grain wants one."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Batch: ...


def prefetch(source: Items, nbytes: int, workers: int) -> Iterator[Batch]:
    """source[0], source[1], ... prepared ahead by processes, or by threads when `workers` is 0.

    Args:
        source: has len() and gives dicts of arrays; sent to the workers by pickle.
        nbytes: of one item, about.
        workers: processes; each prepares whole items in turn and is at most three ahead.
    """
    import grain  # here, because importing grain imports jax, and the rest of data/ must work without it

    if workers < 0:
        raise BadInput(f"workers is {workers}; it must be 0 (threads of this process) or more")
    threads = 0 if workers else _THREADS
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads)
    stream = grain.MapDataset.source(source).to_iter_dataset(options)
    if workers:
        _parse_flags()
        stream = grain.experimental.WithOptionsIterDataset(stream, _exchange(nbytes, workers))
        stream = stream.mp_prefetch(grain.MultiprocessingOptions(num_workers=workers), worker_init_fn=_settle)
    return _until_closed(iter(stream))


def _parse_flags() -> None:
    """Grain reads its absl flags before it starts workers, and refuses where `absl.app.run` has not parsed them."""
    flags = sys.modules.get("absl.flags")
    if flags is not None and not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()


def _until_closed(iterator: Any) -> Iterator[Batch]:
    try:
        for batch in iterator:
            # what comes in shared memory is copied, so that the memory goes back whoever keeps the batch
            yield {name: value if type(value) is np.ndarray else np.array(value) for name, value in batch.items()}
    finally:
        iterator.close()


def _exchange(nbytes: int, workers: int) -> Any:
    """How items come from the workers: through shared memory where it is large enough, else through a pipe.

    In a container /dev/shm often has 64 MB; a worker that writes beyond it is killed by SIGBUS.
    """
    import grain

    needed = 4 * workers * nbytes
    disk = os.statvfs(_SHARED_MEMORY) if Path(_SHARED_MEMORY).is_dir() else None
    room = disk.f_bavail * disk.f_frsize if disk else 0
    return grain.experimental.DatasetOptions(min_shm_size=2**16 if needed < room else 2**62)


def _settle(worker: int, workers: int) -> None:
    """First act of a worker process: its life is its parent's.

    A terminal's Ctrl-C and a scheduler's SIGTERM reach the whole process group; the parent needs its workers to finish
    the step that it is in and to save. And a parent that was killed outright (SIGKILL) cannot end its workers.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def follow() -> None:
        if parent is not None:
            parent.join()
        os._exit(0)

    def leave() -> None:
        timer = threading.Timer(_LAST_WORDS, os._exit, (0,))
        timer.daemon = True
        timer.start()

    threading.Thread(target=follow, daemon=True, name="follow-parent").start()
    # a worker that ends would wait until somebody reads the batch that it has put into a full pipe
    multiprocessing.util.Finalize(None, leave, exitpriority=100)
