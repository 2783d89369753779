"""Files of adapters: what a LoRA run trained, alone, with a digest of the weights that it was trained on."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sadist_jax import pretrained, tree
from sadist_jax.adapt import lora
from sadist_jax.adapt.lora import Lora
from sadist_jax.errors import BadInput
from sadist_jax.models.efficient_sam import EfficientSam
from sadist_jax.models.sam import Sam
from sadist_jax.nn.table import Table
from sadist_jax.recognise import Model
from sadist_jax.typing import Params
from sadist_jax.weights import safetensors
from sadist_jax.weights.digest import digest

_SPEC, _BASE, _OWN = "lora", "base", "digest"  # names in the metadata
_SHOWN = 12  # digits of a digest in a sentence


def save(path: str | Path, model: Model, params: Params, spec: Lora) -> None:
    """Write the adapters that lie in the parameters of a model, and nothing else: a `.safetensors`.

    Args:
      path: the file; replaced when it exists.
      model, params: of the whole adapted model, base and adapters; `tree.merge` makes it of what a method holds.
      spec: by which the adapters were made.

    Raises:
      BadInput: another ending, or adapters that are not those of `spec`; every difference is listed.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise BadInput(f"{path} must end in .safetensors; a .pth of the adapted model is written of lora.fuse(params)")
    base, adapters = lora.split(params)
    flat = {name: np.asarray(value) for name, value in tree.flatten(adapters).items()}
    _check(flat, model.table(), spec, f"the adapters for {path} are not those of the Lora given; give that of the run")
    about = {_SPEC: json.dumps(dataclasses.asdict(spec)), _BASE: digest(tree.flatten(base)), _OWN: digest(flat)}
    safetensors.write(path, flat, {"format": pretrained.ADAPTERS} | about | pretrained.description(model))


def load(path: str | Path, base: Params, source: str = "the model given") -> tuple[Lora, Params]:
    """Read adapters for a base.

    Args:
      path: a file of `save`.
      base: parameters as `sadist_jax.load` gives them; adapters among them are overlooked. source: what an error
        calls them.

    Returns:
      (spec, adapters): NumPy; `lora.attach(base, adapters)` is the adapted model.

    Raises:
      BadInput: the file is missing, damaged, or no file of adapters; or its adapters were trained on other weights.

    Example:
      model, base = sadist_jax.load("sam_vit_b_01ec64.pth")
      spec, adapters = adapters.load("kvasir.safetensors", base)
      predictor = Predictor(model, lora.attach(base, adapters))
    """
    flat, metadata = safetensors.read(path)
    if metadata.get("format") != pretrained.ADAPTERS or not {_SPEC, _BASE, _OWN} <= metadata.keys():
        raise BadInput(
            f"{path} is no file of adapters; name one that adapters.save has written, or the adapter.safetensors of a "
            "LoRA run"
        )
    if metadata[_OWN] != digest(flat):
        raise BadInput(f"{path} is damaged: its adapters are not those that were saved; copy it again")
    model, spec = pretrained.described(metadata.get("fields", ""), str(path)), _spec(metadata[_SPEC], str(path))
    if metadata[_BASE] != (found := digest(tree.flatten(lora.split(base)[0]))):
        raise BadInput(
            f"{path} holds adapters of a {type(model).__name__} with weights {metadata[_BASE][:_SHOWN]}, and those of "
            f"{source} are {found[:_SHOWN]}; give the weights that the adapters were trained on"
        )
    _check(flat, model.table(), spec, f"{path} is damaged: its adapters are not those that it describes; copy it again")
    return spec, tree.unflatten(flat)


def load_adapted(path: str | Path, files: Sequence[str | Path] = ()) -> tuple[Sam | EfficientSam, Params]:
    """`sadist_jax.load` with adapters beside the kernels; those of several files act together, each in full.

    Args:
      path: the base. files: of `save`, made for this base; none: the base as it is.

    Returns:
      (model, params), for `Predictor` and all that takes a model; `lora.fuse(params)` is what `sadist_jax.save` writes.

    Raises:
      BadInput: as `sadist_jax.load` and `load`.

    Example:
      predictor = Predictor(*adapters.load_adapted("sam_vit_b_01ec64.pth", ["kvasir.safetensors"]))
    """
    model, params = pretrained.load(path)
    return model, attached(params, files, str(path))


def attached(base: Params, files: Sequence[str | Path], source: str = "the model given") -> Params:
    """Parameters with the adapters of these files beside their kernels; see `load_adapted`."""
    found: dict[str, Params] = {}
    for file in files:
        _, leaves = load(file, base, source)
        if (own := digest(tree.flatten(leaves))) in found:
            raise BadInput(f"the adapters of {file} are given twice, and would act doubly; leave one out")
        found[own] = leaves
    return lora.attach(base, lora.stack(*found.values()) if len(found) > 1 else next(iter(found.values()), {}))


def _check(flat: dict[str, np.ndarray], model: Table, spec: Lora, what: str) -> None:
    """Raises BadInput unless the adapters have exactly the leaves of `spec`."""
    _, adapters = lora.split(lora.table(model, spec))
    wanted = {name: leaf.shape for name, leaf in tree.flatten(adapters).items()}
    if problems := tree.difference(wanted, {name: value.shape for name, value in flat.items()}):
        raise BadInput(f"{what}:\n{problems}")


def _spec(text: str, source: str) -> Lora:
    try:
        fields: dict[str, Any] = json.loads(text)
        fields |= {name: tuple(value) for name, value in fields.items() if isinstance(value, list)}
        return Lora(**fields)
    except (ValueError, TypeError, AttributeError) as error:
        raise BadInput(
            f"{source} describes its adapters in a way that this version of sadist_jax does not read ({error}); load "
            "it with the version that wrote it"
        ) from None
