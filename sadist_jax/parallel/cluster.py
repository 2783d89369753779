"""Which process of its run this is: what options and environment say, else what Slurm says."""

import dataclasses
import os
import re

from sadist_jax.errors import BadInput

COORDINATOR, PROCESSES, PROCESS = "SADIST_COORDINATOR", "SADIST_PROCESSES", "SADIST_PROCESS"
GPUS = "CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"


@dataclasses.dataclass(frozen=True)
class Member:
    """One of several processes.

    Attributes:
      host, port: where process 0 listens.
      processes: how many there are.
      process: which one this is.
      devices: the GPUs it takes, as numbers among those that it sees; None: all of them.
    """

    host: str
    port: int
    processes: int
    process: int
    devices: tuple[int, ...] | None = None

    @property
    def coordinator(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def member(coordinator: str | None = None, processes: int | None = None, process: int | None = None) -> Member | None:
    """This process among the others; None where the run is one process.

    What is None is looked up in SADIST_COORDINATOR (host:port), SADIST_PROCESSES and SADIST_PROCESS, and then, in a
    task of a Slurm step, in Slurm's variables. A batch script outside of `srun` is one process, whatever its --ntasks.

    Raises:
      BadInput: only a part is known, or the numbers or the address cannot be.
    """
    coordinator = coordinator or os.environ.get(COORDINATOR) or None
    processes = _number(PROCESSES) if processes is None else processes
    process = _number(PROCESS) if process is None else process
    slurm = int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) > 1 and "SLURM_PROCID" in os.environ
    if slurm:
        processes = int(os.environ["SLURM_STEP_NUM_TASKS"]) if processes is None else processes
        process = int(os.environ["SLURM_PROCID"]) if process is None else process
    if processes is not None and processes < 1:
        raise BadInput(f"hosts.processes ({PROCESSES}) is {processes}; it must be 1 or more")
    if process is not None and not 0 <= process < (processes or process + 1):
        raise BadInput(
            f"hosts.process ({PROCESS}) is {process} of hosts.processes ({PROCESSES}) = {processes}; number the "
            "processes from 0"
        )
    if processes == 1 or (coordinator, processes, process) == (None, None, None):
        return None
    if slurm and coordinator is None:
        coordinator = _slurm_coordinator()
    if coordinator is None or processes is None or process is None:
        raise BadInput(
            f"several processes need all of hosts.coordinator ({COORDINATOR}, host:port), hosts.processes "
            f"({PROCESSES}) and hosts.process ({PROCESS})"
        )
    return Member(*_address(coordinator), processes, process, _slurm_gpus() if slurm else None)


def _number(variable: str) -> int | None:
    text = os.environ.get(variable)
    if text is not None and not (text.isascii() and text.isdigit()):
        raise BadInput(f"the environment variable {variable} must be a whole number, not {text!r}")
    return None if text is None else int(text)


def _address(coordinator: str) -> tuple[str, int]:
    host, _, port = coordinator.rpartition(":")
    if not host or not (port.isascii() and port.isdigit()) or not 0 < int(port) < 2**16:
        raise BadInput(
            f"hosts.coordinator ({COORDINATOR}) is {coordinator!r}; give the name of process 0's host and a port that "
            "is free there, as in node1:1234"
        )
    return host.strip("[]"), int(port)


def _slurm_coordinator() -> str:
    """The step's first node, and a port above those that systems hand out, by JAX's rule."""
    return f"{first_node(os.environ['SLURM_STEP_NODELIST'])}:{65536 - 4096 + int(os.environ['SLURM_JOB_ID']) % 4096}"


def first_node(nodes: str) -> str:
    """The first name of a list as Slurm writes it.

    Example:
      >>> first_node("gpu[003-010,12],login1")
      'gpu003'
    """
    first = re.match(r"(\[[^]]*\]|[^,[])*", nodes)
    return re.sub(r"\[([^],-]*)[^]]*\]", r"\1", first[0] if first else nodes)


def _slurm_gpus() -> tuple[int, ...] | None:
    """This task's part of the GPUs that the tasks of its node all see; None where it sees none but its own.

    JAX's rule, the GPU of the task's number on its node, leaves the others idle where a task has a node to itself, and
    asks for one that is not there where Slurm has bound the GPUs (--gpus-per-task).
    """
    environment = os.environ
    tasks = _tasks_here(environment.get("SLURM_STEP_TASKS_PER_NODE", "1"), int(environment.get("SLURM_NODEID", "0")))
    bound = "SLURM_GPUS_PER_TASK" in environment or "gpu" in environment.get("SLURM_TRES_PER_TASK", "")
    if tasks == 1 or bound or "JAX_LOCAL_DEVICE_IDS" in environment:
        return None
    task = int(environment["SLURM_LOCALID"])
    seen = next((environment[name] for name in GPUS if name in environment), None)
    if seen is None:
        return (task,)
    part = len([gpu for gpu in seen.split(",") if gpu]) // tasks
    return tuple(range(task * part, (task + 1) * part)) or None  # fewer than tasks: each sees its own


def _tasks_here(tasks_per_node: str, node: int) -> int:
    """ "2(x3),1": two tasks on each of three nodes, one on the fourth."""
    counts: list[int] = []
    for tasks, times in re.findall(r"(\d+)(?:\(x(\d+)\))?", tasks_per_node):
        counts += [int(tasks)] * int(times or 1)
    return counts[node] if node < len(counts) else 1
