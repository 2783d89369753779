"""Train what a config file describes; run the same command again to go on after an interruption.

    sadist train configs/x.py --optim.lr 3e-4    override any field of the run (--help after the file lists them)
    sadist train configs/x.py --dry-run          show the resolved run, its parameters and their memory; train nothing

A config is a Python file with `config() -> Run`. A name without a path means one of those that come with the package.
What stands after a colon is given to `config`: sadist train sami_ti:full1024.
"""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated

from sadist_jax.train import config

if TYPE_CHECKING:
    from sadist_jax.train.run import Run


def main(argv: Sequence[str]) -> int:
    """`argv`: the config, then options. Returns the exit code."""
    if not argv or argv[0] in ("-h", "--help"):
        names = ", ".join(config.names()) or "(none)"
        print(f"usage: sadist train CONFIG [--dry-run] [options]\n\n{__doc__}\nconfigs: {names}")
        return 0 if argv else 2
    run, module, path = config.make_run(argv[0])
    run, dry_run = override(run, module, path, argv[1:])
    if dry_run:
        print(summary(run))
        return 0
    from sadist_jax.train import outcome
    from sadist_jax.train.loop import train

    directory = train(run)
    print("done: " + ", ".join(str(directory / name) for name in outcome.files(run)))
    return 0


def override(run: "Run", module: ModuleType, path: Path, argv: Sequence[str]) -> tuple["Run", bool]:
    """(the run of a config with the options of the command line, whether it is a dry run)."""
    import tyro

    from sadist_jax.train.run import Run

    arguments = dataclasses.make_dataclass(
        "Arguments",
        [("run", Annotated[Run, tyro.conf.arg(name="")], run), ("dry_run", bool, False)],
        frozen=True,
    )
    parsed = tyro.cli(
        arguments,
        args=list(argv),
        default=arguments(run),
        prog=f"sadist train {path}",
        description=module.__doc__ or "",
        config=(tyro.conf.AvoidSubcommands,),
    )
    return parsed.run, parsed.dry_run


def summary(run: "Run") -> str:
    """The resolved run as JSON, then what it trains and what that weighs."""
    import jax

    from sadist_jax.train import begin
    from sadist_jax.train import run as runs

    runs.check(run)
    job = begin.plan_of(run)
    parts = {"trained": job.template.params, "frozen": job.frozen, "extra": job.template.extra}
    lines = [json.dumps(runs.as_json(run), indent=2), ""]
    for name, part in parts.items():
        leaves = jax.tree.leaves(part)
        lines.append(f"{name:8} {sum(leaf.size for leaf in leaves):>14,} parameters in {len(leaves)} leaves")
    held = jax.tree.leaves((job.template, job.frozen))
    mega = sum(_bytes_on_a_device(leaf) for leaf in held) / 2**20
    lines.append(f"state and frozen weights: {mega:,.1f} MiB on each of {job.mesh.size} device(s)")
    return "\n".join(lines)


def _bytes_on_a_device(leaf) -> int:
    size = leaf.dtype.itemsize
    for n in leaf.sharding.shard_shape(leaf.shape):
        size *= n
    return size
