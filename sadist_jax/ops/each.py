"""A loop over the images of a batch, in which every device goes through its own."""

from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import AxisType, PartitionSpec

ROWS = ("data", "fsdp")  # axes of a mesh along which this package cuts the samples of a batch


def each(fn: Callable[..., Any], rows: Any, *shared: Any) -> Any:
    """`fn(row, *shared)` for each row of the arrays `rows` (any tree), one after another: `lax.map`.

    Left to automatic sharding, a loop over an axis that is cut gathers all of it, and every device goes through all
    rows; with explicit sharding it is an error. So each device loops over its own rows, where JAX's context has a mesh:
    along ROWS, as far as they are automatic and the rows divide, or along the explicit axes that the rows are cut by.
    """
    loop = lambda rows, *shared: jax.lax.map(lambda row: fn(row, *shared), rows)  # noqa: E731
    first = jax.tree.leaves(rows)[0]
    axes = cut_along() or _explicit(first)
    if not axes or first.shape[0] % _devices(axes):
        return loop(rows, *shared)
    inputs = (PartitionSpec(axes), *(PartitionSpec() for _ in shared))
    return jax.shard_map(loop, in_specs=inputs, out_specs=PartitionSpec(axes), axis_names={*axes})(rows, *shared)


def cut_along() -> tuple[str, ...]:
    """Axes of the context's mesh along which samples are cut and XLA decides about everything else."""
    mesh = jax.sharding.get_abstract_mesh()
    types = dict(zip(mesh.axis_names, mesh.axis_types, strict=True))
    return tuple(name for name in ROWS if types.get(name) == AxisType.Auto and mesh.shape[name] > 1)


def _explicit(x: jax.Array) -> tuple[str, ...]:
    """Axes that the rows of x are cut along by their type."""
    spec = jax.typeof(x).sharding.spec
    cut = spec[0] if spec else None
    return () if cut is None else cut if isinstance(cut, tuple) else (cut,)


def _devices(axes: tuple[str, ...]) -> int:
    mesh, count = jax.sharding.get_abstract_mesh(), 1
    for name in axes:
        count *= mesh.shape[name]
    return count
