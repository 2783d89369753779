"""Several processes as one: start, share rows, wait for each other. One process needs none of it."""

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Sharding

from sadist_jax.errors import BadInput


@dataclasses.dataclass(frozen=True)
class HostSpec:
    """Where process 0 listens, how many there are, which one this is; all empty: one process, or what Slurm says.

    The environment variables SADIST_COORDINATOR (host:port), SADIST_PROCESSES and SADIST_PROCESS fill what is empty.
    """

    coordinator: str | None = None
    processes: int | None = None
    process: int | None = None


def start(spec: HostSpec = HostSpec()) -> None:
    """Connect the processes of this run, once, before JAX is used; does nothing where the run is one process.

    Raises:
      BadInput: only a part of coordinator, number and index is given.
    """
    if jax.distributed.is_initialized():
        return
    coordinator = spec.coordinator or os.environ.get("SADIST_COORDINATOR")
    processes = _number(spec.processes, "SADIST_PROCESSES")
    process = _number(spec.process, "SADIST_PROCESS")
    slurm = int(os.environ.get("SLURM_NTASKS", "1")) > 1 and "SLURM_PROCID" in os.environ
    if slurm:  # JAX reads the number and the index; the coordinator only where node names do not resolve
        jax.distributed.initialize(coordinator, processes, process)
    elif coordinator is not None and processes is not None and process is not None:
        if processes > 1:
            jax.distributed.initialize(coordinator, processes, process)
    elif (coordinator, processes, process) != (None, None, None):
        raise BadInput(
            "several processes need all of hosts.coordinator (SADIST_COORDINATOR, host:port), hosts.processes "
            "(SADIST_PROCESSES) and hosts.process (SADIST_PROCESS)"
        )


def _number(value: int | None, variable: str) -> int | None:
    text = os.environ.get(variable)
    if value is not None or text is None:
        return value
    if not text.isdigit():
        raise BadInput(f"the environment variable {variable} must be a whole number, not {text!r}")
    return int(text)


def count() -> int:
    """Number of processes."""
    return jax.process_count()


def index() -> int:
    """Which process this is; 0 writes logs and exports."""
    return jax.process_index()


def barrier(name: str) -> None:
    """Wait until every process has come to the barrier of this name."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def any_of(flag: bool) -> bool:
    """Whether it is true on any process. Collective."""
    if jax.process_count() == 1:
        return bool(flag)
    return bool(np.any(multihost_utils.process_allgather(np.asarray(flag, np.uint8))))


def global_batch(rows: Mapping[str, np.ndarray], sharding: Sharding) -> dict[str, jax.Array]:
    """This process's rows of every array -> arrays of the whole batch, cut over all devices.

    64-bit numbers become 32-bit ones, which is what JAX would make of them; an integer that does not fit raises
    OverflowError.
    """
    return {name: _global(np.asarray(value), sharding) for name, value in rows.items()}


def _global(rows: np.ndarray, sharding: Sharding) -> jax.Array:
    if rows.dtype in (np.int64, np.uint64):
        if rows.size and max(abs(int(rows.min())), abs(int(rows.max()))) > np.iinfo(np.int32).max:
            raise OverflowError("an integer of the batch does not fit 32 bits")
        rows = rows.astype(np.int32)
    elif rows.dtype == np.float64:
        rows = rows.astype(np.float32)
    shape = (rows.shape[0] * jax.process_count(), *rows.shape[1:])
    return jax.make_array_from_process_local_data(sharding, rows, shape)


def agreed(value: np.ndarray) -> np.ndarray:
    """Process 0's value: another framework may draw its start values differently in each."""
    if jax.process_count() == 1:
        return value
    return np.asarray(multihost_utils.broadcast_one_to_all(value))


def place(value: np.ndarray, sharding: Sharding, dtype: Any = None) -> jax.Array:
    """A host array that every process has whole -> one array, each device taking only its own part."""
    dtype = value.dtype if dtype is None else dtype
    return jax.make_array_from_callback(value.shape, sharding, lambda part: np.asarray(value[part], dtype))


def fetch(value: jax.Array) -> np.ndarray:
    """The whole array on this host, wherever its parts are; every process must call it."""
    if not value.is_fully_addressable:
        value = multihost_utils.process_allgather(value, tiled=True)
    return np.asarray(value)
