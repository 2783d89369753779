"""Files of weights in and out: read or recognise which model a file holds, build it, convert its parameters."""

import dataclasses
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from sadist_jax import tree
from sadist_jax.adapt import lora
from sadist_jax.errors import BadInput
from sadist_jax.models.classifier import Classifier
from sadist_jax.models.efficient_sam import EfficientSam, PointEncoder
from sadist_jax.models.mask_decoder import MaskDecoder, Upscale
from sadist_jax.models.prompt_encoder import PromptEncoder
from sadist_jax.models.sam import Sam
from sadist_jax.models.tiny_vit import Stage, TinyVit
from sadist_jax.models.two_way import TwoWay
from sadist_jax.models.vit import Vit
from sadist_jax.models.vit_det import VitDet
from sadist_jax.nn import layers, table
from sadist_jax.recognise import SUPPORTED, Model, Shapes, recognise
from sadist_jax.typing import Params
from sadist_jax.weights import pth, safetensors
from sadist_jax.weights.digest import digest
from sadist_jax.weights.pth_writer import write_pth

ADAPTERS = "sadist_jax adapters"  # the format of a file of adapters alone
SHIPPED = Path(__file__).parent / "weights"  # sam_mini

_DESCRIPTION = "fields"  # its name in the metadata of a .safetensors
_COMPUTES = ("dtype", "remat", "drop_path")  # fields that say how a part computes, not which weights it has
_PARTS: dict[str, Callable[..., Any]] = {
    part.__name__: part
    for part in (
        Sam,
        VitDet,
        TinyVit,
        Stage,
        PromptEncoder,
        MaskDecoder,
        TwoWay,
        Upscale,
        EfficientSam,
        Vit,
        PointEncoder,
        Classifier,
    )
}
_FUNCTIONS = {"relu": jax.nn.relu, "gelu": layers.gelu}  # activations


def load(path: str | Path) -> tuple[Sam | EfficientSam, Params]:
    """Read a checkpoint of a promptable model, find out which one it is of, and convert the parameters.

    A `.safetensors` of `save` or of a run says which; others are recognised by their keys and shapes, and what these
    do not tell is as in the released models (of an EfficientSAM: heads of 64 channels, input side, six slots).

    Args:
      path: an official SAM `.pth`, an EfficientSAM `.pt` or `.pt.zip`, a `.safetensors` of ours with the same names, or
        the name of weights that come with the package: "sam_mini".

    Returns:
      (model, params): NumPy float32, in our layout, named as in the file.

    Raises:
      BadInput: the file is missing, damaged, malicious or of an unknown model; or keys are missing, unknown or of
        another shape, all of which are listed; or it is a classifier's.

    Example:
      model, params = sadist_jax.load("sam_vit_b_01ec64.pth")
    """
    model, params = read(path)
    if isinstance(model, Classifier):
        raise BadInput(f"{path} is of a classifier, which takes no prompts; `sadist eval classes` scores it")
    return model, params


def load_classifier(path: str | Path) -> tuple[Classifier, Params]:
    """As `load`, of a `Classifier`."""
    model, params = read(path)
    if not isinstance(model, Classifier):
        raise BadInput(
            f"{path} is of a {type(model).__name__} and no classifier; `sadist train supervised_ti` makes one"
        )
    return model, params


def read(path: str | Path) -> tuple[Model, Params]:
    """As `load`, of any model that is known here."""
    path = _found(Path(path))
    state, metadata = safetensors.read(path) if path.suffix == ".safetensors" else (pth.read_pth(path), {})
    if metadata.get("format") == ADAPTERS:
        raise BadInput(
            f"{path} holds adapters and no model; give their base as the checkpoint and this file as --adapter (in "
            "Python, sadist_jax.adapters.load_adapted(BASE, [FILE]))"
        )
    if _DESCRIPTION in metadata:
        model = described(metadata[_DESCRIPTION], str(path))
    else:
        model = recognise({name: value.shape for name, value in state.items()}, str(path))
    state = {name: np.asarray(value, np.float32) for name, value in state.items()}
    return model, table.from_reference(model.table(), state, str(path))


def load_part(path: str | Path, model: Sam | EfficientSam, part: str) -> Params:
    """Parameters of one part of `model`, from a file of that part alone or of the whole: the tree for `params[part]`.

    Args:
      path: as for `load`; names with or without the part's own name in front.
      part: "image_encoder", "prompt_encoder" or "mask_decoder".

    Raises:
      BadInput: there is no such part, or the file lacks leaves of it or has others; all are listed.

    Example:
      encoder = load_part("encoder.pth", Sam.vit_b(), "image_encoder")
    """
    parts = model.table()
    if part not in parts:
        raise BadInput(f"a {type(model).__name__} has no part {part!r}, only {', '.join(parts)}")
    path = _found(Path(path))
    state = safetensors.read(path)[0] if path.suffix == ".safetensors" else pth.read_pth(path)
    inside = {name.removeprefix(f"{part}."): value for name, value in state.items() if name.startswith(f"{part}.")}
    state = {name: np.asarray(value, np.float32) for name, value in (inside or state).items()}
    return table.from_reference(parts[part], state, f"{part} of {path}")


def save(path: str | Path, model: Model, params: Params) -> None:
    """Write parameters so that the official code loads them: `.pth` / `.pt` for PyTorch, or `.safetensors`.

    A `.safetensors` also holds the model, so that `load` gives the same one. A `.pth` cannot: a warning says so where
    `load` would take its model for another. An EfficientSAM's `.pt` has its state dict under "model", as released.
    Raises BadInput for another ending, and for parameters with adapters, which the official code does not know.
    """
    if lora.names(params):
        raise BadInput(
            f"the parameters for {path} have adapters; fuse them (sadist_jax.adapt.lora.fuse), or save them alone"
        )
    path, state = Path(path), table.to_reference(model.table(), params)
    if path.suffix == ".safetensors":
        safetensors.write(path, state, {"format": "sadist_jax"} | description(model))
    elif path.suffix in (".pth", ".pt"):
        if _differs(model, {name: value.shape for name, value in state.items()}):
            warnings.warn(
                f"{path} cannot say how its {type(model).__name__} differs from the released ones, and load() would "
                "take it for another; keep a .safetensors too",
                stacklevel=2,
            )
        write_pth(path, state, "model" if isinstance(model, EfficientSam) else None)
    else:
        raise BadInput(f"{path} must end in .pth, .pt or .safetensors")


def description(model: Model) -> dict[str, str]:
    """Metadata from which `load` builds an equal model: its class, and all fields as JSON."""
    return {"model": type(model).__name__, _DESCRIPTION: as_text(model)}


def identity(model: Model, params: Params) -> dict[str, str]:
    """What the answers of a model depend on, to tell whether files were made by the same one."""
    return {"model": as_text(model), "weights": digest(tree.flatten(params))}


def as_text(model: Any) -> str:
    """A model, or a part of one, as JSON: its class, and all its fields. `from_text` is the way back."""
    return json.dumps(_plain(model))


def from_text(text: str, source: str) -> Any:
    """The model of an `as_text`. Raises BadInput, about `source`, where the text is damaged or of another version."""
    try:
        return json.loads(text, object_hook=_part)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise BadInput(
            f"{source} describes its model in a way that this version of sadist_jax does not read ({error}); load it "
            "with the version that wrote it, or save it again"
        ) from None


def described(text: str, source: str) -> Model:
    """The model of a `description`. Raises BadInput where it is no whole model, and as `from_text`."""
    model = from_text(text, source)
    if not isinstance(model, Model):
        raise BadInput(f"{source} describes a {type(model).__name__} and no whole model. Known: {SUPPORTED}")
    return model


def _found(path: Path) -> Path:
    """The file of that path, or the shipped weights of that name."""
    if path.exists() or path.suffix:
        return path
    shipped = {file.stem: file for file in sorted(SHIPPED.glob("*.safetensors"))}
    if str(path) in shipped:
        return shipped[str(path)]
    raise BadInput(
        f"there is no file {path}, and no weights of that name come with the package, only {', '.join(shipped)}"
    )


def _differs(model: Model, shapes: Shapes) -> bool:
    """Whether `recognise` would take the model for another; how it computes is no matter of weights."""

    def sizes(value: Any) -> Any:
        return json.loads(
            json.dumps(_plain(value)),
            object_hook=lambda part: {k: v for k, v in part.items() if k not in _COMPUTES},
        )

    try:
        return sizes(recognise(shapes, "")) != sizes(model)
    except BadInput:
        return True


def _plain(value: Any) -> Any:
    """Dataclasses and functions as JSON can hold them; `_part` is the way back."""
    if dataclasses.is_dataclass(value):
        fields = {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return {"class": type(value).__name__} | fields
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if callable(value):
        return {"function": next(name for name, function in _FUNCTIONS.items() if function is value)}
    return value


def _part(fields: dict[str, Any]) -> Any:
    if "function" in fields:
        return _FUNCTIONS[fields["function"]]
    part = _PARTS[fields.pop("class")]
    return part(**{name: tuple(v) if isinstance(v, list) else v for name, v in fields.items()})
