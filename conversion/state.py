"""The state dict of a file, whatever its format."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from sadist_jax.errors import BadInput
from sadist_jax.weights import pth, safetensors

FILES = ("model.safetensors", "pytorch_model.bin")  # transformers' names of a model's weights
State = dict[str, np.ndarray]


def read_state(path: Path) -> State:
    """{name: array} of a .safetensors, or of what torch.save wrote (.pth, .pt, .bin)."""
    return safetensors.read(path)[0] if path.suffix == ".safetensors" else pth.read_pth(path)


def weights_of(folder: Path) -> tuple[Path, State]:
    """(file, its state dict) of a folder that transformers' save_pretrained wrote. Raises BadInput without one."""
    found = [folder / name for name in FILES if (folder / name).exists()]
    if not found:
        raise BadInput(f"{folder} has a config.json and none of {', '.join(FILES)}; download the weights too")
    return found[0], read_state(found[0])


def read_json(path: Path) -> dict[str, Any]:
    """An object in a file. Raises BadInput where the file holds none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BadInput(f"{path} is no JSON ({error}); download it again") from None
    if not isinstance(found, dict):
        raise BadInput(f"{path} holds no object; download it again")
    return found
