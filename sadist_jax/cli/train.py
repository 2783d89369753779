"""Train what a config file describes; run the same command again to go on after an interruption.

    sadist train configs/x.py --optim.lr 3e-4    override any field of the run (--help after the file lists them)
    sadist train configs/x.py --dry-run          show the resolved run, its parameters and their memory; train nothing

A config is a Python file with `config() -> Run`. A name without a path means one of those that come with the package.
"""

import dataclasses
import difflib
import importlib.util
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated

from sadist_jax.errors import BadInput

if TYPE_CHECKING:
    from sadist_jax.train.run import Run

_ROOT = Path(__file__).parents[1]
_SHIPPED = (_ROOT / "configs", _ROOT.parent / "configs")  # in the wheel, in a checkout


def main(argv: Sequence[str]) -> int:
    """`argv`: the config, then options. Returns the exit code."""
    if not argv or argv[0] in ("-h", "--help"):
        names = ", ".join(_shipped()) or "(none)"
        print(f"usage: sadist train CONFIG [--dry-run] [options]\n\n{__doc__}\nconfigs: {names}")
        return 0 if argv else 2
    path = find(argv[0])
    module = load(path)
    run, dry_run = override(module, path, argv[1:])
    if dry_run:
        print(summary(run))
        return 0
    from sadist_jax.train.loop import train
    from sadist_jax.train.outcome import REPORT
    from sadist_jax.train.start import PARAMS

    directory = train(run)
    print(f"done: {directory / PARAMS} and {directory / REPORT}")
    return 0


def find(name: str) -> Path:
    """The config file of that path, or of that name ("x", "x.py", "configs/x.py") among those of the package."""
    path = Path(name)
    if path.is_file():
        return path
    for folder in _SHIPPED:
        shipped = folder / f"{path.stem}.py"
        if path.parent in (Path("."), Path("configs")) and shipped.is_file():
            return shipped
    near = difflib.get_close_matches(path.stem, _shipped(), n=1)
    hint = f"did you mean {near[0]}?" if near else "`sadist train --help` lists those that come with the package"
    raise BadInput(f"there is no config {name}; {hint}")


def _shipped() -> list[str]:
    return sorted({file.stem for folder in _SHIPPED for file in folder.glob("[!_]*.py")})


def load(path: Path) -> ModuleType:
    """Execute a config file. Modules beside it can be imported by it, and by the data workers."""
    name = f"sadist_config_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise BadInput(f"{path} is not a Python file; a config is one, with a function `config() -> Run`")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    sys.path.append(str(path.parent.absolute()))
    try:
        spec.loader.exec_module(module)
    except SyntaxError as error:
        raise BadInput(f"{path}, line {error.lineno}: {error.msg}; correct it") from None
    if not callable(getattr(module, "config", None)):
        raise BadInput(f"{path} has no function `config() -> Run`; add one, as in the configs of the package")
    import cloudpickle  # grain's; its workers cannot import this module by its name

    cloudpickle.register_pickle_by_value(module)
    return module


def override(module: ModuleType, path: Path, argv: Sequence[str]) -> tuple["Run", bool]:
    """(the config's run with the options of the command line, whether it is a dry run)."""
    import tyro

    from sadist_jax.train.run import Run

    run = module.config()
    if not isinstance(run, Run):
        raise BadInput(f"config() of {path} returns {type(run).__name__}; it must return a sadist_jax.train.run.Run")
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

    from sadist_jax.train import loop
    from sadist_jax.train import run as runs

    runs.check(run)
    job = loop.plan_of(run)
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
