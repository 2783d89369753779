"""Which share of a job that several processes divide is this one's: of the options, or of what started it."""

import os

from sadist_jax.errors import BadInput

OPTIONS = "--process", "--processes"
OWN = "SADIST_PROCESS", "SADIST_PROCESSES"
# Of a step of srun. SLURM_NTASKS would be wrong: a batch script has it too, and is one process all the same.
SLURM = "SLURM_PROCID", "SLURM_STEP_NUM_TASKS"


def share(process: int | None, processes: int | None) -> tuple[int, int]:
    """(which one this is, how many there are), from the first of these places that says so; else (0, 1).

    The options; SADIST_PROCESS and SADIST_PROCESSES; Slurm's srun. The processes need not know of each other.

    Raises BadInput: half of a pair, no whole numbers, or a number that is not below the other.
    """
    if process is not None or processes is not None:
        return _checked(OPTIONS, process, processes)
    environment = os.environ
    if any(name in environment for name in OWN):
        return _checked(OWN, *(_number(name, environment.get(name)) for name in OWN))
    if all(name in environment for name in SLURM):
        return _checked(SLURM, *(_number(name, environment[name]) for name in SLURM))
    return 0, 1


def _checked(names: tuple[str, str], process: int | None, processes: int | None) -> tuple[int, int]:
    if process is None or processes is None:
        raise BadInput(f"{names[0]} and {names[1]} go together: which one this is, from 0, and how many there are")
    if not 0 <= process < processes:
        raise BadInput(f"{names[0]} {process} must be 0 or more, and below {names[1]} {processes}")
    return process, processes


def _number(name: str, text: str | None) -> int | None:
    if text is not None and not (text.isascii() and text.isdigit()):
        raise BadInput(f"the environment variable {name} must be a whole number, not {text!r}")
    return None if text is None else int(text)
