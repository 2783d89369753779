"""What lies in the directory of a run: checkpoints by step, what the run holds still, what was found broken."""

import json
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sadist_jax.errors import BadInput
from sadist_jax.parallel import hosts
from sadist_jax.train import manifest
from sadist_jax.weights.files import replacing

CHECKPOINTS, HELD, BROKEN = "checkpoints", "held", "broken"
_LATER = "later.json"  # in a step's folder
_UNFINISHED = ".orbax-checkpoint-tmp"  # in the names that Orbax gives to what it is writing
_DELETED = ".deleted"


def steps(directory: Path) -> list[int]:
    """Steps of the folders in `directory`/checkpoints that are named like a step, whatever is in them."""
    names = [path.name for path in (directory / CHECKPOINTS).glob("*") if path.is_dir()]
    return sorted(int(name) for name in names if name.isascii() and name.isdecimal() and name == str(int(name)))


def step(directory: Path, number: int) -> Path:
    """The folder of one step."""
    return directory / CHECKPOINTS / str(number)


def meta(path: Path) -> dict[str, Any]:
    """The JSON in a folder that a run has saved, with what it was told later.

    Raises ValueError where a step's folder is a copy of another's.
    """
    found = json.loads((path / "meta" / "metadata").read_bytes())
    if str(found.get("step", path.name)) != path.name:
        raise ValueError(f"it is a copy of step {found['step']}")
    return {**found, **_later(path)}


def tell_later(path: Path, told: Mapping[str, Any]) -> None:
    """Replace entries of the JSON in a folder that is complete, which stays as it is."""
    content = manifest.sealed({**_later(path), **told})
    with replacing(path / _LATER) as file:
        file.write(content)


def _later(path: Path) -> dict[str, Any]:
    found = manifest.unsealed((path / _LATER).read_bytes()) if (path / _LATER).exists() else None
    return found or {}


def set_aside(directory: Path, path: Path) -> Path:
    """Move what cannot be used to `directory`/broken, where it is in nobody's way; returns where it is now."""
    aside = directory / BROKEN / f"{path.name}-{time.time_ns()}"
    aside.parent.mkdir(exist_ok=True)
    return path.rename(aside)


def delete(path: Path) -> None:
    """Delete a checkpoint. It loses its name first, so that a kill in between leaves no half of it to be found."""
    doomed = path.rename(path.with_name(f".{path.name}-{time.time_ns()}{_DELETED}"))
    shutil.rmtree(doomed, ignore_errors=True)


def clear(directory: Path) -> None:
    """Delete what killed runs have left half written or half deleted."""
    for path in [*directory.glob(f"{HELD}{_UNFINISHED}*"), *(directory / CHECKPOINTS).glob("*")]:
        if _UNFINISHED in path.name or path.name.endswith(_DELETED):
            shutil.rmtree(path, ignore_errors=True)


def change(directory: Path, action: Callable[[], Any]) -> None:
    """Process 0 does something to the directory; where it cannot, every host raises BadInput. Every host calls this."""
    failed: str | None = None
    if hosts.index() == 0:
        try:
            action()
        except BadInput as error:
            failed = str(error)
        except OSError as error:
            failed = (
                f"{directory} cannot be written ({error.strerror or error}); see to its permissions and free space, or "
                "choose another directory with --out"
            )
    if hosts.any_of(failed is not None):
        raise BadInput(failed or f"process 0 cannot write {directory}; its log says why")
