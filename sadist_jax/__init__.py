"""Distil, adapt and label with Segment Anything, in JAX.

`load(path)` reads a checkpoint, `save(path, model, params)` writes one, `Predictor(model, params)` clicks on images.
They are imported when they are used: `import sadist_jax.losses` needs nothing but jax.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sadist_jax.codecs.prompts import Prompt
    from sadist_jax.predict.predictor import Predictor
    from sadist_jax.pretrained import load, load_part, save

__version__ = "0.1.0"
__all__ = ["Predictor", "Prompt", "load", "load_part", "save"]

_HOMES = {
    "load": "pretrained",
    "load_part": "pretrained",
    "save": "pretrained",
    "Predictor": "predict.predictor",
    "Prompt": "codecs.prompts",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
