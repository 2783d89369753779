"""Samples -> batches of numpy arrays, the same whatever the number of workers, hosts or restarts.

The stream of samples has no end: position p holds sample `order.sample_index(p)`, and everything random about it comes
from (seed, p). Step s of a run uses positions s * global_batch ... (s + 1) * global_batch - 1, and host h takes the
h-th contiguous slice of them. So the only state of the pipeline is the step, and resuming is `start_step`.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from sadist_jax.data import order
from sadist_jax.data.quarantine import Quarantine
from sadist_jax.data.sample import Reader, Row, Sample, Unreadable
from sadist_jax.data.workers import Batch, Stream, prefetch
from sadist_jax.errors import BadInput

_ENDLESS = 2**48  # batches
_SUBSTITUTES = 100


class Transform(Protocol):
    """Sample -> one row of a batch, or what several samples share. A frozen dataclass, so that workers can have it."""

    def __call__(self, sample: Sample, rng: np.random.Generator, /) -> Row:
        """Arrays without batch axis, always of the same shapes. May hold "weight" 0 where nothing can be learnt."""
        ...

    def filler(self) -> Row:
        """A row of zeros of the same shapes."""
        ...


def batches(
    source: Reader,
    transform: Transform,
    *,
    seed: int,
    global_batch: int,
    start_step: int = 0,
    num_hosts: int = 1,
    host: int = 0,
    workers: int = 0,
    shuffle: bool = True,
    quarantine: Quarantine | None = None,
) -> Stream:
    """This host's part of the batches of steps start_step, start_step + 1, ... without end.

    Every batch has what the transform gives, with a leading axis of global_batch / num_hosts, and
        index  int64 (B,): position in the stream; key of all randomness of the row, also in the step
        weight float32 (B,): 1, or 0 for a row that must not count
    Close it (`.close()`) or drop it to end the workers.

    Args:
        source: an opened source.
        transform: sample -> row.
        seed: of the order and of the transform.
        global_batch: rows of all hosts together.
        start_step: first step wanted.
        num_hosts, host: how many hosts share the batch, and which this is.
        workers: processes that prepare batches, each one whole batches in turn and at most three ahead of the step;
            0 uses threads of this process. Workers are started afresh (spawn), so a script needs the usual
            `if __name__ == "__main__":`, and JAX may be in use already.
        shuffle: False keeps the source's order.
        quarantine: what to do with unreadable samples; None stops at the first. A damaged sample is replaced by the
            first readable one of a sequence drawn from (seed, position).
    Raises:
        BadInput: an option is impossible; while iterating, a sample is damaged and the quarantine is None or full.
    """
    rows = _Rows(source, transform, seed, shuffle, quarantine)
    local = _local_slice(global_batch, num_hosts, host)
    if start_step < 0:
        raise BadInput(f"start_step is {start_step}; it must be 0 or more")
    stream = _Batches(rows, global_batch, local, start_step)
    return prefetch(stream, stream.nbytes(), workers)


def fingerprint(source: Reader, *, seed: int, global_batch: int, shuffle: bool = True) -> dict[str, Any]:
    """What must be equal for a resumed run to go on with the same samples; plain values, for JSON.

    The data set's identity is a digest of its list of files, with the annotations where one file holds them all: not
    of the pictures, which would mean reading terabytes.
    """
    return {
        "data": source.digest(),
        "samples": len(source),
        "seed": seed,
        "global_batch": global_batch,
        "shuffle": shuffle,
    }


@dataclass(frozen=True)
class _Rows:
    """Rows by position."""

    source: Reader
    transform: Transform
    seed: int
    shuffle: bool
    quarantine: Quarantine | None

    def __post_init__(self):
        if len(self.source) == 0:
            raise BadInput("the data source is empty; give one with at least one sample")
        order.generator(self.seed, 0)  # refuses an impossible seed now, not in a worker

    def row(self, position: int) -> Row:
        """The row of a position, or of its first readable substitute."""
        length = len(self.source)
        for attempt in range(_SUBSTITUTES + 1):
            rng = order.generator(self.seed, position, attempt)
            index = order.sample_index(position, length, self.seed, self.shuffle)
            if attempt:
                index = int(rng.integers(length))
            try:
                return {"weight": np.float32(1), **self.transform(self.source[index], rng)}
            except Unreadable as error:
                if self.quarantine is None:
                    raise
                self.quarantine.add(self.source.name(index), error, length)
        raise BadInput(f"{_SUBSTITUTES} samples in a row cannot be read; see {self.quarantine}")

    def filler(self) -> Row:
        return {**self.transform.filler(), "weight": np.float32(0)}


@dataclass(frozen=True)
class _Batches:
    """This host's batches by number: a random-access source, as grain wants one."""

    rows: _Rows
    global_batch: int
    local: slice
    start_step: int

    def __len__(self) -> int:
        return _ENDLESS

    def __repr__(self) -> str:
        return f"batches of {self.global_batch}"

    def __getitem__(self, index: int) -> Batch:
        first = (self.start_step + int(index)) * self.global_batch
        positions = range(first + self.local.start, first + self.local.stop)
        batch: Batch = {}
        for i, position in enumerate(positions):
            for name, value in self.rows.row(position).items():
                value = np.asarray(value)
                if name not in batch:
                    batch[name] = np.empty((len(positions), *value.shape), value.dtype)
                batch[name][i] = value
        batch["index"] = np.array(positions, np.int64)
        return batch

    def nbytes(self) -> int:
        """Of one batch of this host."""
        row = self.rows.filler()
        return sum(np.asarray(v).nbytes for v in row.values()) * (self.local.stop - self.local.start)


def _local_slice(global_batch: int, num_hosts: int, host: int) -> slice:
    if global_batch < 1 or num_hosts < 1 or global_batch % num_hosts:
        raise BadInput(f"global_batch is {global_batch}, which {num_hosts} hosts cannot share equally")
    if not 0 <= host < num_hosts:
        raise BadInput(f"host is {host}; it must be between 0 and {num_hosts - 1}")
    local = global_batch // num_hosts
    return slice(host * local, (host + 1) * local)
