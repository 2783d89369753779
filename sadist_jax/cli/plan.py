"""Predict memory, traffic and step time of a run on devices that are not there.

    sadist plan configs/sami_b.py --devices 64 --kind h100              --kind: v5e, v5p, v6e, a100, h100, h200
    sadist plan sami_mini --devices 8 --kind v5e --mesh.fsdp 8          any option of `sadist train` beside them

The real training step is laid out on so many devices and compiled; no array is made and no data is read. A TPU's
program comes from libtpu, which needs no TPU (install sadist_jax[plan]); a GPU's from XLA's CPU compiler for so many
simulated devices, which cuts and gathers as the GPU's does, but fuses less and computes bfloat16 in float32, so that
temporaries are above what a GPU needs. (The first run above on 64 v5e: libtpu and, with --compiler cpu, the other both
send 439 MB; temporaries are 4.3 and 9.8 GiB. Two minutes of a CPU for the one, one for the other.) What is assumed
stands beside each number. Predictions for GPUs have not been compared with a GPU yet.
"""

import dataclasses
from collections.abc import Sequence
from typing import Literal

import tyro

from sadist_jax.cli import train
from sadist_jax.errors import BadInput
from sadist_jax.parallel import kinds
from sadist_jax.train import config


@dataclasses.dataclass(frozen=True)
class Options:
    """Of the devices; the run's own stand beside them."""

    devices: int
    """how many, over all nodes"""
    kind: str
    """v5e, v5p, v6e, a100, h100 or h200"""
    per_node: int | None = None
    """devices that share the fast links, if not as many as the maker puts together"""
    efficiency: float = kinds.EFFICIENCY
    """share of the peak that products of matrices reach"""
    compiler: Literal["own", "cpu"] = "own"
    """own: libtpu for a TPU; cpu: XLA's CPU compiler for any"""
    limit: float = 300.0
    """seconds that libtpu may take; then the CPU compiler is asked"""


def main(argv: Sequence[str]) -> int:
    """`argv`: the config, then options. Returns the exit code."""
    if not argv or argv[0] in ("-h", "--help"):
        print(f"usage: sadist plan CONFIG --devices N --kind KIND [options]\n\n{__doc__}")
        return 0 if argv else 2
    options, rest = tyro.cli(Options, args=list(argv[1:]), prog=f"sadist plan {argv[0]}", return_unknown_args=True)
    kind = asked(options)

    from sadist_jax.cli import _plan_report, _plan_tpu
    from sadist_jax.parallel import absent
    from sadist_jax.train import forecast, program, work

    if tpu := kind.platform == "tpu" and options.compiler == "own":
        absent.check_slice(kind, options.devices)
    devices = absent.simulated(options.devices)
    run, module, path = config.make_run(argv[0])
    run, _ = train.override(run, module, path, rest)
    laid = program.trace(run, devices, kind)  # what is wrong with the run shows here
    compiled = note = None
    if tpu:
        compiled, note = _plan_tpu.ask(argv[0], kind, options.devices, rest, options.limit)
    if compiled is None:
        compiled = program.compiled_by_cpu(laid)
    expected = forecast.make(
        kind,
        compiled,
        work.count(laid.traced.jaxpr),
        program.share_of_one(run, laid, kind),
        efficiency=options.efficiency,
    )
    print(_plan_report.text(run, kind, options, compiled, expected, note))
    return 0


def asked(options: Options) -> kinds.Kind:
    """The kind of device, in nodes of the size that was asked for. Raises BadInput."""
    kind = kinds.find(options.kind)
    if options.devices < 1:
        raise BadInput(f"--devices {options.devices}: give 1 or more")
    if options.per_node is not None and options.per_node < 1:
        raise BadInput(f"--per-node {options.per_node}: give 1 or more")
    if not 0 < options.efficiency <= 1:
        raise BadInput(f"--efficiency {options.efficiency}: give a share of the peak, above 0 and at most 1")
    if not options.limit > 0:
        raise BadInput(f"--limit {options.limit}: give seconds above 0; --compiler cpu does without libtpu")
    return kind if options.per_node is None else dataclasses.replace(kind, node=options.per_node)
