"""Which device holds which part of a leaf: one rule for parameters, moments, averages and frozen weights.

A leaf of at least `min_size` elements is cut along its largest axis that the fsdp axis of the mesh divides; smaller
leaves are repeated on every device. `overrides` say otherwise by name.
"""

import dataclasses
import math
import re
from collections.abc import Callable, Iterable
from typing import Any

import jax
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec

from sadist_jax import tree
from sadist_jax.errors import BadInput
from sadist_jax.ops.each import ROWS
from sadist_jax.parallel.mesh import AXES

CUT = AXES[1:]  # along data leaves are repeated: nothing would put them together again where they are used


@dataclasses.dataclass(frozen=True)
class ShardSpec:
    """The rule's threshold, and exceptions.

    overrides: (regex of leaf names, mesh axis or None for each axis of the leaf). `(("head\\.kernel", ("fsdp",
      None)),)` cuts the rows of one kernel; `(".*bias", ())` repeats all biases. The last match wins.
    rounded: patterns of frozen leaves that lie in bfloat16: half the memory. Exact for kernels of a model that computes
      in bfloat16, which rounds them at every use; not for its norms and positions, which it takes in float32:
      `teacher\\..*(qkv|proj|lin1|lin2)\\.weight` are 99 % of ViT-H.
    """

    min_size: int = 2**16
    overrides: tuple[tuple[str, tuple[str | None, ...]], ...] = ()
    rounded: tuple[str, ...] = ()


def check(spec: ShardSpec, names: Iterable[str]) -> None:
    """Raises BadInput for an override that matches no name, or whose axes no leaf can be cut along."""
    names = list(names)
    for pattern, axes in spec.overrides:
        tree.matches(pattern, names)
        named = [axis for axis in axes if axis is not None]
        if unknown := set(named) - set(CUT):
            raise BadInput(
                f"shard.overrides: {pattern!r} names the mesh axis {unknown.pop()!r}; leaves are cut along "
                f"{' and '.join(CUT)}"
            )
        if len(named) > len(set(named)):
            raise BadInput(f"shard.overrides: {pattern!r} names the mesh axis {named[0]!r} twice; it cuts one axis")


def partition_spec(spec: ShardSpec, mesh: Mesh | AbstractMesh, name: str, shape: tuple[int, ...]) -> PartitionSpec:
    """The cut of one leaf. Raises BadInput when an override does not divide the leaf."""
    axes = next((a for pattern, a in reversed(spec.overrides) if re.fullmatch(pattern, name)), None)
    if axes is not None:
        if len(axes) > len(shape) or any(a and n % mesh.shape[a] for a, n in zip(axes, shape, strict=False)):
            raise BadInput(f"shard.overrides: {axes} cannot cut {name} {shape} on the mesh {dict(mesh.shape)}")
        return PartitionSpec(*axes)
    parts = mesh.shape["fsdp"]
    free = [axis for axis, n in enumerate(shape) if n and n % parts == 0]
    if parts == 1 or math.prod(shape) < spec.min_size or not free:
        return PartitionSpec()
    largest = max(free, key=lambda axis: shape[axis])
    return PartitionSpec(*[None] * largest, "fsdp")


def shardings(spec: ShardSpec, mesh: Mesh, abstract: Any) -> Any:
    """Tree of NamedShardings for any tree of shapes.

    A leaf's name is made of the dictionary keys at the end of its way, so that a moment of `a.kernel`, deep inside an
    optimiser's state, is cut as `a.kernel` is.
    """

    def one(path, leaf) -> NamedSharding:
        return NamedSharding(mesh, partition_spec(spec, mesh, _name(path), leaf.shape))

    return jax.tree_util.tree_map_with_path(one, abstract)


def held(spec: ShardSpec, abstract: Any) -> Callable[[int], int]:
    """Function of a number of devices along fsdp -> bytes of a tree of shapes on each of them."""
    leaves = jax.tree_util.tree_flatten_with_path(abstract)[0]

    def nbytes(parts: int) -> int:
        mesh = AbstractMesh((1, parts, 1), AXES)
        cut = ["fsdp" in partition_spec(spec, mesh, _name(path), leaf.shape) for path, leaf in leaves]
        sizes = [leaf.size * leaf.dtype.itemsize for _, leaf in leaves]
        return sum(size // parts if parted else size for size, parted in zip(sizes, cut, strict=True))

    return nbytes


def _name(path: tuple[Any, ...]) -> str:
    keys: list[str] = []
    for step in path:
        keys = [*keys, step.key] if isinstance(step, jax.tree_util.DictKey) else []
    return ".".join(keys)


def computed(sharding: NamedSharding) -> NamedSharding:
    """How a leaf of this cut is computed with: whole along fsdp, still in parts along tensor."""
    return NamedSharding(sharding.mesh, PartitionSpec(*(None if axis == "fsdp" else axis for axis in sharding.spec)))


def rows(mesh: Mesh) -> NamedSharding:
    """For arrays with the samples on axis 0: cut along every axis but tensor."""
    return NamedSharding(mesh, PartitionSpec(ROWS))


def replicated(mesh: Mesh) -> NamedSharding:
    """The whole array on every device."""
    return NamedSharding(mesh, PartitionSpec())
