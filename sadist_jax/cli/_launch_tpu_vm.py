"""`sadist launch tpu-vm`: launch/tpu_vm.sh for one run."""

import dataclasses
from collections.abc import Sequence

import tyro

from sadist_jax.cli._launch_template import fill, in_place, refuse_own_config, shell, show_or_hand_over
from sadist_jax.errors import BadInput


@dataclasses.dataclass(frozen=True)
class Options:
    """The same command on all hosts of a Cloud TPU VM, over `gcloud compute tpus tpu-vm ssh`; printed, or run."""

    name: str
    """of the TPU VM"""
    zone: str
    """where it is"""
    project: str | None = None
    """of gcloud; its own default if none is named"""
    requirement: str = ""
    """what each host installs, once, into a Python 3.11: 'sadist_jax[tpu] @ git+https://HOST/OWNER/sadist_jax', or a
    wheel in a bucket, 'sadist_jax[tpu] @ https://storage.googleapis.com/BUCKET/sadist_jax-0.1.0-py3-none-any.whl'"""
    setup: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """a line of shell on each host before the run, repeated; such as the mount of the folder that all hosts share, on
    ~/sadist/runs"""
    accelerator_type: str | None = None
    """makes the VM anew when it was taken away, as v5litepod-32; with --version"""
    version: str | None = None
    """software of the VM that is made anew, as v2-alpha-tpuv5-lite"""
    spot: bool = False
    """the VM that is made anew may be taken away again, and costs less"""
    max_restarts: int = 10
    """starts after a host was lost; an hour of running counts as progress and starts anew"""
    dry_run: bool = False
    """print only, as without --submit"""
    submit: bool = False
    """run it here with bash, until the run has ended"""


def launch(options: Options, job: Sequence[str]) -> int:
    """Print the script, or run it; returns the exit code."""
    return show_or_hand_over(render(options, job), ["bash", "-c"], options, in_place)


def render(options: Options, job: Sequence[str]) -> str:
    """launch/tpu_vm.sh of these options."""
    _check(options)
    refuse_own_config(job, "~/sadist", "runs")
    create = [f"--accelerator-type={options.accelerator_type}", f"--version={options.version}"]
    return fill(
        "tpu_vm.sh",
        {
            "name": shell([options.name]),
            "zone": shell([options.zone]),
            "project": "" if options.project is None else f" --project={shell([options.project])}",
            "requirement": shell([options.requirement]),
            "setup": "\n".join(options.setup),
            "create": "" if options.version is None else shell([*create, *(["--spot"] if options.spot else [])]),
            "arguments": shell(job),
            "max_restarts": str(options.max_restarts),
        },
    )


def _check(options: Options) -> None:
    if options.max_restarts < 0:
        raise BadInput("--max-restarts must be 0 or more")
    if "/" not in options.requirement:  # whoever takes the name on an index could have every host run their code
        raise BadInput(
            f"--requirement {options.requirement!r} has no address, and no package index has sadist_jax; say where the "
            "hosts get it: 'sadist_jax[tpu] @ git+https://HOST/OWNER/sadist_jax', or after the @ that of a wheel in a "
            "bucket"
        )
    if (options.accelerator_type is None) != (options.version is None):
        raise BadInput("--accelerator-type and --version go together: what a VM that was taken away is made of anew")
    if options.spot and options.accelerator_type is None:
        raise BadInput(
            "--spot is of a VM that is made anew; name its --accelerator-type and --version, or leave it out"
        )
