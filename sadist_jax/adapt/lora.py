"""LoRA: low-rank updates beside chosen kernels, which alone are trained (Hu et al. 2022, arXiv:2106.09685).

    W' = W + scale * A B,   A (inputs, rank) ~ U(-1, 1) / sqrt(inputs),   B (rank, outputs) = 0

`table` adds the leaves (see nn/layers.py, which computes with them) to a model's table, `split` takes them off a tree
again: what is left is the untouched base. Everything else maps trees to trees: `attach`, `stack`, and `fuse` on the
host. A starts as PyTorch starts a linear layer (Kaiming's uniform rule with a = sqrt 5), as in Hu et al.'s code.
A convolution has A of its own kernel size and B of 1 x 1; one in groups takes no update.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from sadist_jax import tree
from sadist_jax.errors import BadInput
from sadist_jax.nn.layers import ALL, QKV
from sadist_jax.nn.table import Leaf, Table
from sadist_jax.typing import Array, Key, Params

_KINDS = ("dense", "conv", "conv_transpose")  # of kernels
_MARK = ".lora."  # in the name of every leaf of an adapter


@dataclasses.dataclass(frozen=True)
class Lora:
    """Which layers get updates, and how large. The defaults are those of WeSAM (Zhang et al. 2024) and Sam_LoRA.

    targets: patterns of names of layers, such as `image_encoder.blocks.0.attn.qkv`, which must match as a whole.
    parts: of a fused qkv, some of "q", "k" and "v", each with factors of its own, or ("all",): one pair for the three.
      Any other layer has one pair.
    rank: columns of A; alpha: scale is alpha / rank; None: scale is 1.
    """

    targets: tuple[str, ...] = (r"image_encoder\.blocks\.\d+\.attn\.qkv",)
    parts: tuple[str, ...] = ("q", "v")
    rank: int = 4
    alpha: float | None = None

    def __post_init__(self):
        if not self.targets:
            raise BadInput("lora.targets is empty, so there is nothing to train; name layers, such as `.*attn.qkv`")
        if self.rank < 1:
            raise BadInput(f"lora.rank is {self.rank}, so there is nothing to train; give 1 or more")
        if self.alpha is not None and self.alpha <= 0:
            raise BadInput(f"lora.alpha is {self.alpha}; it must be above 0, or None for a scale of 1")
        one_each = 0 < len(self.parts) == len({*self.parts} & {*QKV})
        if self.parts != (ALL,) and not one_each:
            raise BadInput(f"lora.parts is {self.parts}; give some of q, k and v, each once, or all alone")

    @property
    def scale(self) -> float:
        return 1.0 if self.alpha is None else self.alpha / self.rank


def table(model: Table, spec: Lora) -> Table:
    """The model's table with the leaves of the adapters added, beside the kernels that they change.

    Raises:
      BadInput: a target that matches no layer with a kernel, a depthwise convolution, a rank above a kernel's.

    Example:
      >>> from sadist_jax.models.sam import Sam
      >>> from sadist_jax.nn.table import count
      >>> base, adapters = split(table(Sam.vit_b().table(), Lora()))
      >>> count(base), count(adapters)
      (93735472, 147456)
    """
    leaves = tree.flatten(model)
    kernels = {
        name.removesuffix(".weight"): leaf
        for name, leaf in leaves.items()
        if name.endswith(".weight") and leaf.kind in _KINDS and leaf.role == "weight"
    }
    chosen = {layer for target in spec.targets for layer in tree.matches(target, kernels)}
    added: dict[str, Leaf] = {}
    for layer in (layer for layer in kernels if layer in chosen):
        for part, (inputs, outputs) in _factors(layer, leaves, spec.parts).items():
            _check_rank(spec.rank, f"{layer} ({part})", math.prod(inputs), math.prod(outputs))
            made = {
                "a": Leaf((*inputs, spec.rank), _uniform),
                "b": Leaf((spec.rank, *outputs)),
                "scale": Leaf((), jax.nn.initializers.constant(spec.scale), role="buffer"),
            }
            added |= {f"{layer}{_MARK}{part}.{name}": leaf for name, leaf in made.items()}
    return tree.merge(model, tree.unflatten(added))


def names(params: Mapping[str, object]) -> list[str]:
    """Names of the leaves of adapters in a tree or a table."""
    return [name for name in tree.flatten(params) if _MARK in name]


def split(params: Params) -> tuple[Params, Params]:
    """(base, adapters) of a tree or a table; `attach` puts them together again."""
    adapters, base = tree.partition(params, set(names(params)))
    return base, adapters


def attach(base: Params, adapters: Params) -> Params:
    """`base` with the adapters beside its kernels. To swap adapters, attach others to the base that `split` gives.

    Raises:
      BadInput: the base has other layers, or kernels of other shapes.
      ValueError: the base has adapters already; `stack` makes one of several.
    """
    if names(base):
        raise ValueError("the base has adapters already: split it first, and stack adapters that are to act together")
    found = tree.flatten(base)
    for layer, parts in _by_layer(adapters).items():
        kernel = found.get(f"{layer}.weight")
        for part, p in parts.items():
            if kernel is None or _form(part, p["a"].shape, p["b"].shape, kernel.shape) != tuple(kernel.shape):
                there = "no such kernel" if kernel is None else f"a kernel {tuple(kernel.shape)}"
                raise BadInput(
                    f"the adapters' {layer}{_MARK}{part} of {tuple(p['a'].shape)} and {tuple(p['b'].shape)} does not "
                    f"fit the model, which has {there} in its place; give the adapters of this model"
                )
    return tree.merge(base, adapters)


def stack(*adapters: Params, weights: Sequence[float] | None = None) -> Params:
    """One tree of adapters that does what several do at once: the sum of weight * scale * A B, ranks side by side.

    weights: one number for each of the adapters, 1 if not given. They and the scales go into B; the new scale is 1.
    On the host, in NumPy; layers and parts may differ.
    """
    given = [1.0] * len(adapters) if weights is None else weights
    rows: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    for one, weight in zip(adapters, given, strict=True):
        for layer, parts in _by_layer(one).items():
            for part, p in parts.items():
                a, b, scale = (np.asarray(p[name]) for name in ("a", "b", "scale"))
                rows.setdefault(f"{layer}{_MARK}{part}", []).append((a, (weight * scale * b).astype(b.dtype)))
    flat: dict[str, np.ndarray] = {}
    for name, pairs in rows.items():
        a, b = zip(*pairs, strict=True)
        flat |= {f"{name}.a": np.concatenate(a, -1), f"{name}.b": np.concatenate(b)}
        flat[f"{name}.scale"] = np.ones((), flat[f"{name}.b"].dtype)
    return tree.unflatten(flat)


def fuse(params: Params) -> Params:
    """The base with every kernel replaced by W + scale * A B: a tree as if there had never been an adapter.

    On the host: summed in float64, then rounded once to the kernel's own type. What has no adapter stays as it is.
    """
    base, adapters = split(params)
    flat = tree.flatten(base)
    for layer, parts in _by_layer(adapters).items():
        kernel = flat[f"{layer}.weight"]
        total = np.array(kernel, np.float64, order="C")  # so that its parts are views
        for part, p in parts.items():
            a, b, scale = (np.asarray(p[name], np.float64) for name in ("a", "b", "scale"))
            place = _place(part, total, b.shape)
            place += (scale * np.tensordot(a, b, 1)).reshape(place.shape)
        flat[f"{layer}.weight"] = total.astype(kernel.dtype)
    return tree.unflatten(flat)


def _place(part: str, kernel: np.ndarray, b: tuple[int, ...]) -> np.ndarray:
    """View of the part of a kernel that A B adds to, its inputs first."""
    if part != ALL:
        inputs, thirds, channels = len(kernel), len(QKV), b[-1]
        return kernel.reshape(inputs, -1, thirds, channels)[:, :, QKV.index(part)]
    return np.moveaxis(kernel, 2, 0) if len(b) == 4 else kernel  # transposed: B is (rank, 2, 2, outputs)


def _form(part: str, a: tuple[int, ...], b: tuple[int, ...], kernel: tuple[int, ...]) -> tuple[int, ...] | None:
    """Shape of the kernel that factors of these shapes belong to; None where they belong to none."""
    if a[-1] != b[0]:
        return None
    if part != ALL:
        return (*a[:-1], len(QKV) * math.prod(b[1:]))
    return (*b[1:3], *a[:-1], *b[3:]) if len(b) == 4 else (*a[:-1], *b[1:])


def _by_layer(adapters: Params) -> dict[str, dict[str, dict[str, Array]]]:
    """{name of the layer: {part: its a, b and scale}}."""
    layers: dict[str, dict[str, dict[str, Array]]] = {}
    for name, value in tree.flatten(adapters).items():
        layer, _, rest = name.rpartition(_MARK)
        part, leaf = rest.split(".")
        layers.setdefault(layer, {}).setdefault(part, {})[leaf] = value
    return layers


def _factors(
    layer: str, leaves: Mapping[str, Leaf], parts: tuple[str, ...]
) -> dict[str, tuple[tuple[int, ...], tuple[int, ...]]]:
    """{part: (axes of A before the rank, axes of B after it)} of one layer."""
    kernel = leaves[f"{layer}.weight"]
    above, _, own = layer.rpartition(".")
    if kernel.kind == "conv_transpose":
        side, _, inputs, outputs = kernel.shape
        return {ALL: ((inputs,), (side, side, outputs))}
    if kernel.kind == "conv" and kernel.shape[2] == 1:
        raise BadInput(
            f"{layer} is a depthwise convolution, whose kernel sees one channel and has no rank to speak of; leave it "
            "out of lora.targets"
        )
    if own != "".join(QKV) or kernel.kind != "dense" or parts == (ALL,):
        return {ALL: (kernel.shape[:-1], kernel.shape[-1:])}
    inputs, outputs = kernel.shape
    third = (outputs // len(QKV),)
    if biases := leaves.get(f"{above}.attention_biases"):  # TinyViT's: each head has its q, k and v side by side
        heads = biases.shape[0]
        third = (heads, third[0] // heads)
    return dict.fromkeys(parts, ((inputs,), third))


def _check_rank(rank: int, name: str, inputs: int, outputs: int) -> None:
    if rank > min(inputs, outputs):
        raise BadInput(
            f"lora.rank is {rank}, more than the {inputs} x {outputs} matrix of {name} can have; give at most "
            f"{min(inputs, outputs)}, or leave that layer out of lora.targets"
        )


def _uniform(key: Key, shape: tuple[int, ...], dtype=jnp.float32) -> Array:
    bound = math.prod(shape[:-1]) ** -0.5
    return jax.random.uniform(key, shape, dtype, -bound, bound)
