"""Folders that are written beside the training and appear whole: Orbax's files, their manifest, then the final name."""

import itertools
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import orbax.checkpoint as ocp

from sadist_jax.errors import BadInput
from sadist_jax.parallel import hosts
from sadist_jax.train import manifest

_POLL = 0.2  # seconds between two looks at how the other hosts fare
_NUMBERS = itertools.count()  # of writers; hosts make them in the same order


class Writer:
    """Writes one folder at a time, in the background; several hosts each write their own parts of the arrays.

    What goes wrong is kept until `settle` or `close` raises it. The hosts' background threads meet twice a folder: when
    all parts are written, and when the folder has its name. A host that fails never comes there, so the others can be
    called off.
    """

    def __init__(self) -> None:
        several = hosts.count() > 1
        options = ocp.AsyncOptions(
            post_finalization_callback=self._seal, barrier_sync_fn=self._meet if several else None
        )
        self._orbax: Any = ocp.AsyncCheckpointer(ocp.CompositeCheckpointHandler(), async_options=options)
        self._thread = ThreadPoolExecutor(1, "checkpoint")
        self._folder = Path()
        self._written: Future[None] | None = None
        self._called_off = threading.Event()
        self._name, self._folders = f"sadist/writer-{next(_NUMBERS)}", 0

    def begin(self, folder: Path, **items: Any) -> None:
        """Start to write `items` (arguments of Orbax, by name) to `folder`; returns when the arrays may be used up.

        Every host calls it, after `settle`. There must be nothing at `folder`.
        """
        self._folder = folder
        self._folders += 1
        # forced, or every host would look by itself whether something is there, and one that sees it late fail alone
        self._orbax.save(folder, args=ocp.args.Composite(**items), force=True)
        self._written = self._thread.submit(self._orbax.wait_until_finished)

    def _seal(self) -> None:
        """Orbax calls this on process 0 when all files are written, before it gives the folder its final name.

        So there is never a folder of that name without a manifest, wherever the process is killed.
        """
        manifest.write(Path(self._orbax.get_temporary_path(self._folder).get()))

    def _meet(self, *, key: str, timeout_ms: int) -> None:
        """Orbax calls this in the background threads of all hosts; returns when the last has come."""
        place, until = f"{self._name}/{self._folders}/{key}/", time.monotonic() + timeout_ms / 1000
        board = ocp.multihost.get_jax_distributed_client()
        board.key_value_set(f"{place}{hosts.index()}", "here")
        while len(board.key_value_dir_get(place)) < hosts.count():
            if self._called_off.wait(_POLL):
                raise InterruptedError("another host could not write its part")
            if time.monotonic() > until:
                raise TimeoutError(f"not every host had written its part after {timeout_ms / 1000:.0f} s")

    def settle(self) -> None:
        """Wait until the folder is there on all hosts; every host calls it.

        Raises:
          BadInput: it could not be written; on every host, whichever failed.
        """
        written, self._written = self._written, None
        while written is not None:
            wait([written], timeout=None if hosts.count() == 1 else _POLL)
            done = written.done()
            error = written.exception() if done else None
            if hosts.any_of(error is not None):
                self._called_off.set()
                raise self._complaint(error)
            if not hosts.any_of(not done):
                return

    def close(self) -> bool:
        """As `settle`, for this host alone and without any collective call: it may follow an error of this host's.

        Returns whether there was a folder to wait for.

        Raises:
          BadInput: it could not be written, and `settle` has not said so.
        """
        written, self._written = self._written, None
        try:
            if written is not None and (error := written.exception()) is not None:
                raise self._complaint(error)
        finally:
            self._thread.shutdown()
            self._orbax.close()
        return written is not None

    def _complaint(self, error: BaseException | None) -> BadInput:
        why = "another host's log says why" if error is None else first_line(error)
        return BadInput(
            f"{self._folder} could not be written ({why}); free space, or see to the disk, and run the same command "
            "again: it goes on from the checkpoint before"
        )


def first_line(error: BaseException) -> str:
    """An error of a library, short enough for a sentence: storage layers name the cause last."""
    text = str(error).partition("\n")[0]
    text = text if len(text) <= 200 else f"{text[:80]} ... {text[-120:]}"
    return text if isinstance(error, BadInput) else f"{type(error).__name__}: {text}"
