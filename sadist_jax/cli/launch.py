"""Start a run as several processes: on this machine, a Slurm cluster, TPU hosts or Kubernetes.

    sadist launch local --processes 2 -- train sami_ti        on this machine; started again when one is lost
    sadist launch slurm --nodes 4 --gpus-per-node 8 -- train sami_ti           prints the batch script
    sadist launch slurm --nodes 4 --gpus-per-node 8 --submit -- train sami_ti  gives it to sbatch
    sadist launch slurm --nodes 4 --gpus-per-node 8 --submit -- doctor sami_ti  looks whether all hosts can do the run
    sadist launch tpu-vm --name my-tpu --zone us-central2-b --requirement ... -- train sami_ti  on all hosts of a TPU VM
    sadist launch jobset --name my-run ... -- train sami_ti   on a TPU slice or GPU nodes of Kubernetes (JobSet)

What stands after `--` is a job of sadist that processes can divide: train, features or label; or doctor, which is
started as they are, once. `sadist launch WHERE --help` shows the options; launch/README.md says which is for whom, and
where config, data and weights must lie. Only `local` and --submit start anything. Bad input (exit code 2) is never run
again, a run that was asked to stop (75) goes on where the cluster lets it, and after a lost process (3, 134) or a hang
(70) all start again.
"""

import dataclasses
import importlib
from collections.abc import Sequence
from typing import Any

from sadist_jax.errors import BadInput

WHERE = ("local", "slurm", "tpu-vm", "jobset")
JOBS = ("train", "features", "label", "doctor")


def main(argv: Sequence[str]) -> int:
    """`argv`: where, its options, `--`, the job. Returns the exit code."""
    if not argv or argv[0] in ("-h", "--help"):
        print(f"usage: sadist launch {{{','.join(WHERE)}}} [options] -- JOB ...\n\n{__doc__}")
        return 0 if argv else 2
    where = argv[0]
    if where not in WHERE:
        raise BadInput(f"sadist launch knows no {where}; it is one of {', '.join(WHERE)}")
    words, job = split(argv[1:])
    module = importlib.import_module(f"sadist_jax.cli._launch_{where.replace('-', '_')}")
    options = _parse(module.Options, where, words)
    if job[0] == "doctor":  # what it finds between the hosts (3) is its answer, and no reason to ask again
        options = dataclasses.replace(options, max_restarts=0)
    return module.launch(options, job)


def split(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """(the options, which stand before `--`; the job after it)."""
    at = argv.index("--") if "--" in argv else len(argv)
    options, job = list(argv[:at]), list(argv[at + 1 :])
    if "-h" in options or "--help" in options:
        return options, job
    if not job or job[0] not in JOBS:
        raise BadInput(
            f"after the options come `--` and a job, one of {', '.join(JOBS)}: sadist launch ... -- train CONFIG"
        )
    if any("\n" in word for word in argv):
        raise BadInput("an option or a word of the job has a line break, which batch scripts cannot hold; take it out")
    return options, job


def _parse(options: type, where: str, words: Sequence[str]) -> Any:
    import tyro

    return tyro.cli(options, args=list(words), prog=f"sadist launch {where}", config=(tyro.conf.AvoidSubcommands,))
