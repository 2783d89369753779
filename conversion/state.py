"""The state dict of a file, whatever its format."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from sadist_jax.errors import BadInput
from sadist_jax.weights import pth, safetensors

State = dict[str, np.ndarray]


def read_state(path: Path) -> State:
    """{name: array} of a .safetensors, or of what torch.save wrote (.pth, .pt, .bin)."""
    return safetensors.read(path)[0] if path.suffix == ".safetensors" else pth.read_pth(path)


def read_json(path: Path) -> dict[str, Any]:
    """An object in a file. Raises BadInput where the file holds none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BadInput(f"{path} is no JSON ({error}); download it again") from None
    if not isinstance(found, dict):
        raise BadInput(f"{path} holds no object; download it again")
    return found
