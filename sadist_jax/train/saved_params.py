"""The parameters of a run by name, for others to start from: those of a checkpoint, and those that never move."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from sadist_jax import tree
from sadist_jax.errors import BadInput
from sadist_jax.parallel import hosts
from sadist_jax.train import folder, manifest
from sadist_jax.train.writer import Writer, first_line
from sadist_jax.typing import Params


def is_held(directory: Path, held: Params, identity: Mapping[str, Any]) -> bool:
    """Whether the parameters that a run does not move lie beside its checkpoints, as they are now. Every host calls it.

    They follow from `identity` (data set, seed, frozen weights) and their names.
    """
    if not tree.flatten(held):
        return True
    path = Path(directory).absolute() / folder.HELD
    if hosts.any_of(manifest.problem(path, hosts.index(), hosts.count()) is not None):
        return False  # before anyone reads it: each host has compared its share of the files alone
    return not hosts.any_of(folder.meta(path) != _meta_of(held, identity))


def _meta_of(held: Params, identity: Mapping[str, Any]) -> dict[str, Any]:
    return {"identity": dict(identity), "leaves": {name: list(leaf.shape) for name, leaf in tree.flatten(held).items()}}


def save_held(directory: Path, held: Params, identity: Mapping[str, Any]) -> None:
    """Save them, in the place of others. Every host calls it. Raises BadInput where they cannot be written."""
    path, meta = Path(directory).absolute() / folder.HELD, _meta_of(held, identity)
    folder.change(path.parent, lambda: folder.set_aside(path.parent, path) if path.exists() else None)
    writer = Writer()
    try:
        writer.begin(path, params=ocp.args.StandardSave(held), meta=ocp.args.JsonSave(meta))
        writer.settle()
    finally:
        writer.close()


def read_params(directory: Path) -> dict[str, np.ndarray]:
    """{leaf name: value} of all parameters and statistics of a run, as of its newest checkpoint that is whole.

    Files are compared with their manifests first. The directory stays as it is: it may be another run's.

    Raises:
      BadInput: there is none, or the parameters that the run does not move are damaged.
    """
    directory = Path(directory).absolute()
    for step in reversed(folder.steps(directory)):
        path = folder.step(directory, step)
        if (problem := manifest.problem(path)) is None:
            try:
                folder.meta(path)
                moved = [_read_part(path / "state", part) for part in ("params", "extra")]
            except Exception as error:  # Orbax raises whatever its storage layer does
                problem = first_line(error)
            else:
                return moved[0] | moved[1] | _read_held(directory)
        warnings.warn(f"checkpoint {path} cannot be read ({problem})", stacklevel=2)
    raise BadInput(f"{directory} holds neither weights nor a checkpoint that can be read; name a run that has saved")


def _read_held(directory: Path) -> dict[str, np.ndarray]:
    path = directory / folder.HELD
    if not path.exists():
        return {}
    if problem := manifest.problem(path):
        raise BadInput(
            f"{path} is damaged ({problem}); run its config again, which writes it anew, or name another run"
        )
    return _read_part(path / "params")


def _read_part(path: Path, key: str | None = None) -> dict[str, np.ndarray]:
    """{leaf name: value} of a saved tree, or of its branch `key`."""
    reader: Any = ocp.PyTreeCheckpointHandler()  # typed for paths of another library, it takes any
    there = reader.metadata(path).tree
    if key is not None and not there.get(key):
        return {}  # an empty tree
    there = there if key is None else {key: there[key]}
    plain = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), there)
    found = reader.restore(path, args=ocp.args.PyTreeRestore(there, plain, partial_restore=True))
    return tree.flatten(found if key is None else found[key])
