"""Several processes as one: start, agree, share rows, wait for each other. One process needs none of it.

What is marked as collective, every process must call, in the same order, or those that do wait for ever.
"""

import dataclasses
import multiprocessing
import os
import re
import sys
import time
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Sharding

from sadist_jax.errors import BadInput, ClusterProblem, note_exit
from sadist_jax.parallel import cluster, preflight

AUTO = "SADIST_HOSTS"
HEARTBEAT = 30  # seconds of silence after which a process counts as lost, and JAX ends the others (exit code 134)
_LOST = re.compile(r"gloo|[nr]ccl|heartbeat|coordination (service|agent)|barrier|UNAVAILABLE", re.IGNORECASE)
_FAREWELL = 10.0  # seconds
_coordinates = True  # whether JAX's service runs in this process, as far as is known


@dataclasses.dataclass(frozen=True)
class HostSpec:
    """Where process 0 listens, how many there are, which one this is; all empty: one process, or what Slurm says.

    The environment variables SADIST_COORDINATOR (host:port), SADIST_PROCESSES and SADIST_PROCESS fill what is empty;
    SADIST_PATIENCE is how many seconds a process waits for the others at the start (300).

    Attributes:
      auto: JAX finds out all of it, as on the hosts of a TPU pod, or under the mpirun of Open MPI 4. SADIST_HOSTS=auto
        says the same.
    """

    coordinator: str | None = None
    processes: int | None = None
    process: int | None = None
    auto: bool = False


def start(spec: HostSpec = HostSpec()) -> None:
    """Connect the processes of this run, once, before JAX is used; does nothing where the run is one process.

    Collective. A task of Slurm gets GPUs of its own. A process that is lost later ends the others within `HEARTBEAT`.

    Raises:
      BadInput: only a part of coordinator, number and index is given, or they cannot be.
      ClusterProblem: the processes do not find each other within SADIST_PATIENCE.
    """
    if jax.distributed.is_initialized():
        return
    if _auto(spec):
        _detect()
        return
    member = cluster.member(spec.coordinator, spec.processes, spec.process)
    if member is None:
        return
    seconds = preflight.patience()
    preflight.roll_call(member, seconds)
    global _coordinates
    _coordinates = member.process == 0
    jax.distributed.initialize(
        member.coordinator,
        member.processes,
        member.process,
        local_device_ids=member.devices,
        cluster_detection_method="deactivate",  # all of it is known; JAX would give a task of Slurm another GPU
        initialization_timeout=max(int(seconds), 60),
        heartbeat_timeout_seconds=HEARTBEAT,
    )


def _auto(spec: HostSpec) -> bool:
    said = os.environ.get(AUTO, "")
    if said not in ("", "auto"):
        raise BadInput(f"the environment variable {AUTO} is {said!r}; it can be auto, or left out")
    return spec.auto or said == "auto"


def _detect() -> None:
    """Let JAX find the others: a TPU pod's metadata, or the variables of Open MPI 4."""
    seconds = preflight.patience()
    try:
        jax.distributed.initialize(initialization_timeout=max(int(seconds), 60), heartbeat_timeout_seconds=HEARTBEAT)
    except ValueError as error:
        raise BadInput(
            f"hosts.auto ({AUTO}=auto) is for TPU pods and the mpirun of Open MPI 4, and JAX finds neither here "
            f"({error}); leave it out for one process, or set {cluster.COORDINATOR}, {cluster.PROCESSES} and "
            f"{cluster.PROCESS}"
        ) from None
    except (RuntimeError, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise ClusterProblem(f"the hosts of this pod do not find each other: {reason}") from None


def connected() -> bool:
    """Whether this process has been connected with others; does not start JAX's devices, unlike `count`."""
    return jax.distributed.is_initialized()


def lost(error: Exception) -> ClusterProblem | None:
    """What an error of JAX means that comes of another process's end; None for any other error."""
    first = str(error).partition("\n")[0]
    if not isinstance(error, jax.errors.JaxRuntimeError) or _LOST.search(first) is None:
        return None
    return ClusterProblem(f"another process of this run was lost or cannot be reached; see its log ({first})")


def leave(code: int) -> None:
    """End a process that failed, with this exit code, where it has been connected with others; else return.

    JAX would have it wait for them at the end, for five minutes, while they wait for it in a collective. The one that
    coordinates stays a moment: JAX aborts the others when it goes, and those that fail alike have a word to say too.
    """
    if not connected():
        return
    note_exit(code)
    sys.stdout.flush()
    sys.stderr.flush()
    for worker in multiprocessing.active_children():
        worker.kill()
    if _coordinates:
        time.sleep(_FAREWELL)
    os._exit(code)


def count() -> int:
    """Number of processes."""
    return jax.process_count()


def index() -> int:
    """Which process this is; 0 writes logs and exports."""
    return jax.process_index()


def barrier(name: str) -> None:
    """Wait until every process has come to the barrier of this name. Collective."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def any_of(flag: bool) -> bool:
    """Whether it is true on any process. Collective."""
    if jax.process_count() == 1:
        return bool(flag)
    return bool(np.any(multihost_utils.process_allgather(np.asarray(flag, np.uint8))))


def least(number: int) -> int:
    """The smallest of all processes' numbers, exact whatever their size. Collective."""
    if jax.process_count() == 1:
        return int(number)
    return min(int(text) for text in gather_text(str(int(number))))


def gather_text(text: str) -> list[str]:
    """Every process's text, in their order. Collective; made for kilobytes."""
    if jax.process_count() == 1:
        return [text]
    data = text.encode()
    sizes = multihost_utils.process_allgather(np.asarray(len(data), np.int32))
    padded = np.zeros(1 << max(int(sizes.max()) - 1, 1).bit_length(), np.uint8)  # few lengths: each is compiled once
    padded[: len(data)] = np.frombuffer(data, np.uint8)
    rows = multihost_utils.process_allgather(padded)
    return [row[:size].tobytes().decode() for row, size in zip(rows, sizes, strict=True)]


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
    """Process 0's value: another framework may draw its start values differently in each. Collective."""
    if jax.process_count() == 1:
        return value
    return np.asarray(multihost_utils.broadcast_one_to_all(value))


def place(value: np.ndarray, sharding: Sharding, dtype: Any = None) -> jax.Array:
    """A host array that every process has whole -> one array, each device taking only its own part."""
    dtype = value.dtype if dtype is None else dtype
    return jax.make_array_from_callback(value.shape, sharding, lambda part: np.asarray(value[part], dtype))


def fetch(value: jax.Array) -> np.ndarray:
    """The whole array on this host, wherever its parts are. Collective."""
    if not value.is_fully_addressable:
        value = multihost_utils.process_allgather(value, tiled=True)
    return np.asarray(value)
