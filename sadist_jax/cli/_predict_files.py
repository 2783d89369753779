"""What `sadist predict` writes for a photo: where to, in which form, whole or not at all."""

import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from sadist_jax.data.names import first_five
from sadist_jax.errors import BadInput
from sadist_jax.weights.files import replacing

_PICTURES = (".png", ".jpg", ".jpeg", ".webp")


class Files(NamedTuple):
    """overlay: a picture. mask: PNG. logits: .npy. json: as SA-1B's. None: not written."""

    overlay: Path
    mask: Path | None = None
    logits: Path | None = None
    json: Path | None = None


def files_of_one(photo: Path, out: Path | None, mask: Path | None, logits: Path | None, json: Path | None) -> Files:
    """As the options name them.

    Raises BadInput: a wrong ending, a folder that is not there, the photo itself, one file for two things.
    """
    files = Files(out or Path(f"{photo.stem}_overlay.png"), mask, logits, json)
    endings = {"out": _PICTURES, "mask-out": (".png",), "logits-out": (".npy",), "json-out": (".json",)}
    for path, (option, allowed) in zip(files, endings.items(), strict=True):
        if path is not None:
            _check_writable(path, f"--{option}", allowed)
    places = [path.resolve() for path in (photo, *files) if path is not None]
    if double := [path for path, times in Counter(places).items() if times > 1]:
        raise BadInput(f"{double[0]} would be written over the photo, or twice; name another file")
    return files


def files_of_several(photos: Sequence[Path], folder: Path | None) -> list[Files]:
    """NAME_overlay.png, NAME_mask.png and NAME.json for each photo, in a folder that is made.

    Raises BadInput: no folder, one of the photos' own, one that cannot be made, or two photos of one name.
    """
    if folder is None:
        raise BadInput("several photos need a folder for what is written: --out FOLDER")
    often = Counter(photo.stem for photo in photos)
    if double := [str(photo) for photo in photos if often[photo.stem] > 1]:
        raise BadInput(f"photos of one name would share their files; do one after the other: {first_five(double)}")
    if beside := [str(photo) for photo in photos if photo.parent.resolve() == folder.resolve()]:
        raise BadInput(f"--out {folder} is where {beside[0]} lies, whose own .json could be lost; choose another")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"--out {folder} cannot be made a folder ({error.strerror}); choose another") from None
    stems = [folder / photo.stem for photo in photos]
    return [Files(_end(s, "_overlay.png"), _end(s, "_mask.png"), json=_end(s, ".json")) for s in stems]


def save(path: Path, content: np.ndarray | Mapping[str, Any]) -> None:
    """An array as the picture or the .npy that the ending says, an object as JSON."""
    buffer = io.BytesIO()
    if isinstance(content, Mapping):
        buffer.write(json.dumps(content).encode())
    elif path.suffix.lower() == ".npy":
        np.save(buffer, content)
    else:
        Image.fromarray(content).save(buffer, Image.registered_extensions()[path.suffix.lower()])
    with replacing(path) as file:
        file.write(buffer.getvalue())


def _end(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)


def _check_writable(path: Path, option: str, endings: tuple[str, ...]) -> None:
    if path.suffix.lower() not in endings:
        raise BadInput(f"{option} {path} must end in {' or '.join(endings)}")
    if not path.parent.is_dir():
        raise BadInput(f"{option} {path} cannot be written: there is no folder {path.parent}; make it first")
    if path.is_dir():
        raise BadInput(f"{option} {path} is a folder; name a file")
