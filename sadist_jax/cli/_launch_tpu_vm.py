"""`sadist launch tpu-vm`: launch/tpu_vm.sh for one run."""

import dataclasses
from collections.abc import Sequence

import tyro

from sadist_jax.cli._launch_template import fill, hand_over, shell, show
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
    requirement: str = "sadist_jax[tpu]"
    """what pip installs on each host, once: a wheel, a repository, a version"""
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
    text = render(options, job)
    if options.dry_run or not options.submit:
        return show(text, ["bash", "-s"])
    return hand_over("", ["bash", "-c", text])  # gcloud's ssh would read a script on standard input


def render(options: Options, job: Sequence[str]) -> str:
    """launch/tpu_vm.sh of these options."""
    if options.max_restarts < 0:
        raise BadInput("--max-restarts must be 0 or more")
    if (options.accelerator_type is None) != (options.version is None):
        raise BadInput("--accelerator-type and --version go together: what a VM that was taken away is made of anew")
    if options.spot and options.accelerator_type is None:
        raise BadInput(
            "--spot is of a VM that is made anew; name its --accelerator-type and --version, or leave it out"
        )
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
