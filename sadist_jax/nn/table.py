"""The table of a model: every parameter's name, shape and start value, written once.

A table is a nested dict of `Leaf`s with the names of the reference checkpoint. From it follow the initial parameters
(keyed by leaf name, so adding a layer leaves the others' start values bit-identical), the abstract tree and the
conversion from and to the reference's layout, which is total: every disagreement is listed, none is skipped.
"""

import dataclasses
import zlib
from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from sadist_jax import tree
from sadist_jax.errors import BadInput
from sadist_jax.typing import Array, Key, Params

Initializer = Callable[[Key, tuple[int, ...], Any], Array]
Table = dict[str, Any]  # nested dict of Leaf

zeros = jax.nn.initializers.zeros
ones = jax.nn.initializers.ones
trunc_normal = jax.nn.initializers.truncated_normal(0.02, lower=-2.0, upper=2.0)
xavier_uniform = jax.nn.initializers.xavier_uniform()

# ours <- the reference's (PyTorch): dense (out, in) -> (in, out); conv OIHW -> HWIO; transposed conv IOHW -> HWIO
_TO_OURS = {"plain": None, "count": None, "dense": (1, 0), "conv": (2, 3, 1, 0), "conv_transpose": (2, 3, 0, 1)}
_TO_REFERENCE = {"plain": None, "count": None, "dense": (1, 0), "conv": (3, 2, 0, 1), "conv_transpose": (2, 3, 0, 1)}


class Given:
    """An initializer whose value exists already: a model of another framework brings its weights along."""

    def __init__(self, value: Any):
        self.value = value

    def __call__(self, key: Key, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
        return jnp.array(self.value, dtype)  # a copy: a step gives its own buffers away


@dataclasses.dataclass(frozen=True)
class Leaf:
    """One parameter: `shape` in our layout, `kind` says how the reference stores it, `role` what it is.

    `buffer` is saved with the weights but never trained (SAM's Fourier matrix); `stat` moves without gradient.
    A `count` is an int64 in the reference (batches that a batch norm has seen), and a float here like everything else.
    """

    shape: tuple[int, ...]
    init: Initializer = zeros
    kind: Literal["plain", "count", "dense", "conv", "conv_transpose"] = "plain"
    role: Literal["weight", "buffer", "stat"] = "weight"

    @property
    def reference_shape(self) -> tuple[int, ...]:
        axes = _TO_REFERENCE[self.kind]
        return self.shape if axes is None else tuple(self.shape[a] for a in axes)


def init(table: Table, key: Key, dtype=jnp.float32) -> Params:
    """Start values; each leaf's key is `key` folded with its name, so it depends on nothing else in the table."""

    def one(name: str, leaf: Leaf) -> Array:
        return leaf.init(jax.random.fold_in(key, zlib.crc32(name.encode())), leaf.shape, dtype)

    return tree.map_named(one, table)


def abstract(table: Table, dtype=jnp.float32) -> Params:
    """Tree of jax.ShapeDtypeStruct: restore template, memory estimate, `jax.eval_shape` input."""
    return tree.map_named(lambda _, leaf: jax.ShapeDtypeStruct(leaf.shape, dtype), table)


def count(table: Table) -> int:
    """Number of elements of the weights (buffers and statistics are not counted)."""
    return sum(int(np.prod(leaf.shape)) for leaf in tree.flatten(table).values() if leaf.role == "weight")


def from_reference(table: Table, state: Mapping[str, np.ndarray], source: str = "the checkpoint") -> Params:
    """Reference state dict {name: array} -> our params (NumPy, same dtypes). BadInput lists every disagreement."""
    leaves = tree.flatten(table)
    wanted = {name: leaf.reference_shape for name, leaf in leaves.items()}
    problems = tree.difference(wanted, {name: np.shape(value) for name, value in state.items()})
    if problems:
        raise BadInput(
            f"{source} does not fit this model; choose the model that it was saved from, or another file:\n{problems}"
        )
    return tree.unflatten({name: _transpose(state[name], _TO_OURS[leaf.kind]) for name, leaf in leaves.items()})


def to_reference(table: Table, params: Params) -> dict[str, np.ndarray]:
    """Our params -> reference state dict {name: array}, contiguous NumPy. BadInput lists every disagreement."""
    leaves, flat = tree.flatten(table), tree.flatten(params)
    problems = tree.difference({n: leaf.shape for n, leaf in leaves.items()}, {n: v.shape for n, v in flat.items()})
    if problems:
        raise BadInput(f"these parameters do not fit the model; give those that it was made with:\n{problems}")
    state = {name: _transpose(np.asarray(flat[name]), _TO_REFERENCE[leaf.kind]) for name, leaf in leaves.items()}
    return {name: x.astype(np.int64) if leaves[name].kind == "count" else x for name, x in state.items()}


def _transpose(x: np.ndarray, axes: tuple[int, ...] | None) -> np.ndarray:
    return np.asarray(x if axes is None else np.transpose(x, axes), order="C")
