"""Weights that lie in parts over the devices, put together where they are used."""

import jax
from jax.sharding import PartitionSpec

from sadist_jax.ops.each import ROWS, cut_along
from sadist_jax.typing import Array, Params

AXIS = ROWS[1]  # of a mesh: weights are cut along it to be stored, and not to be computed with


def whole(weight: Array, dtype: jax.typing.DTypeLike) -> Array:
    """The weight in the type that it is computed in, whole on every device; outside a mesh with `fsdp`, only the type.

    A product can be made of a weight in parts in two ways: gather the weight, or exchange activations. Left to itself
    XLA chooses for each product by its shapes. Training that is parallel in the data wants the first always
    (Rajbhandari et al. 2020, ZeRO, stage 3): its bytes do not grow with the batch. They would be half as many if the
    weight were rounded to bfloat16 before it travels; compiled for a CPU, float32 is gathered all the same. The
    gradient is under no constraint on its way back: where only parts of it are wanted, XLA may add up parts.

    The mesh is that of JAX's context (`jax.set_mesh`, or `use_abstract_mesh` in a jitted function). One with a `tensor`
    axis is left alone: some weights stay in parts along it, and which is not known here.
    """
    weight = weight.astype(dtype)
    tensor = jax.sharding.get_abstract_mesh().shape.get("tensor", 1)
    return _gathered(weight) if AXIS in cut_along() and tensor == 1 else weight


def all_whole(weights: Params) -> Params:
    """Every leaf in its own type: for what a loop uses, which would gather them in each of its turns."""
    return jax.tree.map(lambda weight: whole(weight, weight.dtype), weights)


@jax.custom_vjp
def _gathered(weight: Array) -> Array:
    return jax.lax.with_sharding_constraint(weight, PartitionSpec())


_gathered.defvjp(lambda weight: (_gathered(weight), None), lambda _, gradient: (gradient,))
