"""`sadist launch slurm`: launch/slurm.sbatch for one run."""

import dataclasses
import sys
from collections.abc import Sequence

import tyro

from sadist_jax.cli._launch_template import fill, shell, show_or_hand_over
from sadist_jax.errors import BadInput


@dataclasses.dataclass(frozen=True)
class Options:
    """A batch job with one task a GPU; printed, or given to sbatch. Every node must see the folder it is run in."""

    nodes: int = 1
    """nodes of the job"""
    gpus_per_node: int = 0
    """GPUs of a node, each with a task of its own; 0: no GPU"""
    tasks_per_node: int | None = None
    """tasks of a node without GPUs; else one a GPU"""
    cpus_per_task: int | None = None
    """cores of a task: as many as a node has for each GPU, or what reads the images starves it; else Slurm's 1"""
    time: str = "24:00:00"
    """limit of one go; the job is queued again until the run has ended"""
    name: str = "sadist"
    """of the job"""
    output: str = "%x-%j.log"
    """file of what all tasks print; Slurm fills in %x (name) and %j (number). Its folder must exist"""
    sbatch: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """another option of sbatch, repeated: --sbatch=--partition=a100 --sbatch=--exclusive"""
    setup: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """a line of shell before the run, repeated: --setup "module load cuda" """
    python: str = sys.executable
    """Python that has sadist_jax, on every node; that of this command if none is named"""
    coordinator: str | None = None
    """host:port on the first node, where the names of nodes cannot be looked up"""
    max_restarts: int = 3
    """starts in the same allocation after a task was lost; an hour of running counts as progress and starts anew"""
    dry_run: bool = False
    """print only, as without --submit"""
    submit: bool = False
    """give it to sbatch"""


def launch(options: Options, job: Sequence[str]) -> int:
    """Print the batch script, or submit it; returns the exit code."""
    return show_or_hand_over(render(options, job), ["sbatch"], options)


def render(options: Options, job: Sequence[str]) -> str:
    """launch/slurm.sbatch of these options."""
    _check(options)
    gpus = options.gpus_per_node
    sbatch = [f"--gpus-per-node={gpus}"] if gpus else []
    if options.cpus_per_task is not None:
        sbatch.append(f"--cpus-per-task={options.cpus_per_task}")
    setup = list(options.setup)
    if options.coordinator is not None:
        setup.append(f"export SADIST_COORDINATOR={shell([options.coordinator])}")
    return fill(
        "slurm.sbatch",
        {
            "name": shell([options.name]),
            "nodes": str(options.nodes),
            "tasks_per_node": str(gpus or options.tasks_per_node or 1),
            "time": shell([options.time]),
            "output": shell([options.output]),
            "sbatch": "\n".join(f"#SBATCH {shell([option])}" for option in [*sbatch, *options.sbatch]),
            "setup": "\n".join(setup),
            "command": shell([options.python, "-m", "sadist_jax", *job]),
            "max_restarts": str(options.max_restarts),
            "srun": shell(_srun(gpus, job)),
        },
    )


def _srun(gpus: int, job: Sequence[str]) -> list[str]:
    """Options of srun. The processes of a training run need each other; shares of a folder do not."""
    words = ["--label", f"--kill-on-bad-exit={int(job[0] == 'train')}"]
    return [*words, "--gpu-bind=none"] if gpus else words  # each sees all of its node, and takes its part by its number


def _check(options: Options) -> None:
    if options.nodes < 1 or options.gpus_per_node < 0 or options.max_restarts < 0:
        raise BadInput("--nodes must be 1 or more, --gpus-per-node and --max-restarts 0 or more")
    if options.tasks_per_node is not None and (options.gpus_per_node or options.tasks_per_node < 1):
        raise BadInput("--tasks-per-node is 1 or more, and of nodes without GPUs: with them there is one task a GPU")
    if options.cpus_per_task is not None and options.cpus_per_task < 1:
        raise BadInput("--cpus-per-task must be 1 or more; leave it out for Slurm's own number")
    for option in options.sbatch:
        if not option.startswith("-"):
            raise BadInput(f"--sbatch {option} is no option of sbatch; write --sbatch=--partition=a100")
