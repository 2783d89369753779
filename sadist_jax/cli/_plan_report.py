"""What `sadist plan` prints."""

from typing import TYPE_CHECKING

from sadist_jax.cli._plan_tpu import REFUSED
from sadist_jax.parallel.kinds import GIB, PREALLOCATED, Kind
from sadist_jax.train.forecast import Forecast
from sadist_jax.train.program import Program
from sadist_jax.train.run import Run

if TYPE_CHECKING:
    from sadist_jax.cli.plan import Options


def text(run: Run, kind: Kind, options: "Options", program: Program, expected: Forecast, note: str | None) -> str:
    """All of it. `note`: why the device's own compiler was not the one."""
    parts = (
        _heading(run, kind, options, program, note),
        _memory(kind, expected, refused=(note or "").startswith(REFUSED)),
        _work(run, expected),
        _network(expected),
        _time(run, expected),
    )
    return "\n\n".join("\n".join(part) for part in parts)


def _heading(run: Run, kind: Kind, options: "Options", program: Program, note: str | None) -> list[str]:
    mesh, nodes = dict(program.mesh), -(-options.devices // kind.node)
    lines = [
        f"{run.name} on {options.devices} x {kind.name} in {nodes} node(s) of up to {kind.node}",
        f"mesh {mesh}, {run.global_batch} samples a step, {run.global_batch // (mesh['data'] * mesh['fsdp'])} a device",
        f"compiled by {program.compiler} in {program.seconds:.1f} s",
    ]
    if note:
        lines.append(note)
    if program.compiler != "libtpu":
        lines.append(
            f"(not the compiler of a {kind.name}: it cuts and gathers alike, but fuses less and computes in "
            "float32, so that temporaries are rather above)"
        )
    return lines


def _memory(kind: Kind, expected: Forecast, *, refused: bool) -> list[str]:
    memory = expected.memory
    verdict = "fits" if expected.fits and not refused else "DOES NOT FIT"
    why = f" as JAX takes {PREALLOCATED:.0%} at its start" if kind.platform == "gpu" else ""
    rows = {
        "arguments": (memory.arguments, "state, frozen weights, batch"),
        "temporaries": (memory.temporaries, ""),
        "results": (memory.results, "that take no argument's place"),
        "total": (memory.total, f"of {kind.memory / GIB:.2f}, {kind.usable / GIB:.2f} usable{why}: {verdict}"),
    }
    lines = [f"  {name:12}{nbytes / GIB:9.3f}  {what}".rstrip() for name, (nbytes, what) in rows.items()]
    return ["memory of a device, GiB", *lines]


def _work(run: Run, expected: Forecast) -> list[str]:
    work = expected.work
    lines = [
        "products of matrices in a step, all devices, what is computed again included",
        f"  {work.flops / 1e12:,.4g} TFLOP, {work.flops / run.global_batch / 1e9:,.4g} GFLOP a sample",
    ]
    if work.unbounded:
        lines.append(f"  unknown: how often {work.unbounded} loop(s) turn; counted as once")
    return lines


def _network(expected: Forecast) -> list[str]:
    if not expected.flows:
        return ["network: nothing is sent"]
    lines = ["network: MB that a device receives in a step    inside nodes  across nodes  messages"]
    lines += [
        f"  {name:44} {flow.inside / 1e6:14,.2f}{flow.across / 1e6:14,.2f}{flow.times:10}"
        for name, flow in sorted(expected.flows.items())
    ]
    if expected.unbounded:
        lines.append(f"  unknown: how often the loops around {expected.unbounded} of them turn; counted as once")
    return lines


def _time(run: Run, expected: Forecast) -> list[str]:
    lines = ["time of a step, as if these ran side by side"]
    for name, seconds, how in expected.terms:
        lines.append(f"  {name:12}{'unknown' if seconds is None else f'{seconds * 1e3:,.3g} ms':>12}  {how}")
    if expected.step is None:
        return [*lines, "  step            unknown, as one of these is"]
    rate, hours = run.global_batch / expected.step, run.steps * expected.step / 3600
    return [
        *lines,
        f"  {'step':12}{expected.step * 1e3:>9,.3g} ms  the largest: {rate:,.4g} images/s; {run.steps:,} steps take "
        f"{hours:,.3g} hours",
        "not in it: reading data, evals, checkpoints, start and compilation, latency of small messages",
    ]
