"""What every op with a batch promises: on rows cut over devices it gives the same, and nothing is exchanged."""

import importlib
import inspect
import pkgutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import sadist_jax.ops
from sadist_jax.ops import (
    attention,
    boxes,
    edges,
    masks,
    pixels,
    points,
    pooling,
    precision,
    resize,
    similarity,
    windows,
)
from sadist_jax.parallel import collectives

RNG = np.random.default_rng(0)
ROWS, SIDE = 8, 16


def numbers(*shape):
    return RNG.normal(size=(ROWS, *shape)).astype(np.float32)


def drawn(*shape):
    return RNG.random((ROWS, *shape)) < 0.4


def corners(*shape):
    """Boxes xyxy with an area."""
    low, sides = RNG.uniform(0, 9, (2, ROWS, *shape, 2))
    return np.concatenate([low, low + 1 + sides], -1).astype(np.float32)


HEADS = (numbers(70, 2, 8), numbers(70, 2, 8), numbers(70, 2, 8))
RELATIVE = (numbers(70, 2, 7), numbers(70, 2, 10))
KEYS = jax.random.split(jax.random.key(0), ROWS)
SIZE = np.tile(np.array([12, 9], np.int32), (ROWS, 1))
REST = {  # without a batch of their own: used inside others, or on the host
    "attention.choose", "attention.augment", "attention.planned_for", "beta.beta_quantile", "each.cut_along",
    "each.each", "edges.crests", "precision.wide", "pixels.content", "resize.matrix", "resize.resize_axis",
}  # fmt: skip
CASES = {
    "attention.attention": (lambda q, k, v, h, w: attention.attention(q, k, v, relative=(h, w)), *HEADS, *RELATIVE),
    "boxes.area": (boxes.area, corners()),
    "boxes.clip": (boxes.clip, corners(), SIZE),
    "boxes.cxcywh_to_xyxy": (boxes.cxcywh_to_xyxy, corners(2)),
    "boxes.iou": (boxes.iou, corners(3), corners(4)),
    "boxes.xywh_to_xyxy": (boxes.xywh_to_xyxy, corners(2)),
    "boxes.xyxy_to_cxcywh": (boxes.xyxy_to_cxcywh, corners(2)),
    "boxes.xyxy_to_xywh": (boxes.xyxy_to_xywh, corners(2)),
    "edges.outer_boundary": (edges.outer_boundary, drawn(SIDE, SIDE)),
    "edges.sobel": (edges.sobel, numbers(SIDE, SIDE)),
    "masks.area_downsample": (lambda x: masks.area_downsample(x, 4), drawn(3, SIDE, SIDE)),
    "masks.mask_iou": (masks.mask_iou, drawn(SIDE, SIDE), drawn(SIDE, SIDE)),
    "masks.mask_to_box": (masks.mask_to_box, drawn(SIDE, SIDE)),
    "masks.stability_score": (masks.stability_score, numbers(SIDE, SIDE)),
    "pixels.normalize": (pixels.normalize, numbers(SIDE, SIDE, 3), SIZE),
    "points.jitter_box": (jax.vmap(points.jitter_box), KEYS, corners(), SIZE),
    "points.sample_error_click": (jax.vmap(points.sample_error_click), KEYS, drawn(SIDE, SIDE), drawn(SIDE, SIDE)),
    "points.sample_in_mask": (jax.vmap(points.sample_in_mask), KEYS, drawn(SIDE, SIDE)),
    "pooling.mean_direction": (pooling.mean_direction, numbers(5, 5, 6), drawn(3, 5, 5)),
    "precision.widen": (precision.widen, numbers(3)),
    "resize.resize": (lambda x: resize.resize(x, (7, 9), "bicubic"), numbers(SIDE, SIDE, 2)),
    "similarity.similarity_to_mask": (similarity.similarity_to_mask, numbers(5, 5, 6), numbers(3, 5, 5)),
    "windows.partition": (lambda x: windows.partition(x, 5), numbers(SIDE, SIDE, 2)),
    "windows.unpartition": (lambda x: windows.unpartition(x.reshape(-1, 5, 5, 2), (9, 8)), numbers(4, 5, 5, 2)),
}
ITERATIVE = {"boxes.nms"}  # on one image; CONTRIBUTING.md says how it runs on a batch


def public() -> set[str]:
    names = set()
    for found in pkgutil.iter_modules(sadist_jax.ops.__path__):
        module = importlib.import_module(f"sadist_jax.ops.{found.name}")
        names |= {
            f"{found.name}.{name}"
            for name, thing in vars(module).items()
            if inspect.isfunction(thing) and thing.__module__ == module.__name__ and not name.startswith("_")
        }
    return names


def test_every_op_has_a_case():
    assert public() == set(CASES) | REST | ITERATIVE


@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit], ids=["auto", "explicit"])
@pytest.mark.parametrize("name", CASES)
def test_sharded_equals_unsharded_without_communication(name, axis_type):
    op, *arguments = CASES[name]
    expected = jax.jit(op)(*arguments)
    mesh = jax.make_mesh((4, 2), ("data", "fsdp"), axis_types=(axis_type,) * 2, devices=jax.devices()[:8])
    with jax.set_mesh(mesh):
        placed = jax.device_put(arguments, NamedSharding(mesh, P(("data", "fsdp"))))
        compiled = jax.jit(op).lower(*placed).compile()
        got = compiled(*placed)
    assert collectives.find(compiled.as_text()) == []
    for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(np.asarray(one), np.asarray(other), rtol=1e-5, atol=1e-6)
        assert one.sharding.is_equivalent_to(NamedSharding(mesh, P(("data", "fsdp"))), one.ndim)


def test_the_gradient_of_a_bias_is_summed_over_the_devices():
    """Attention loops over the images of each device by itself (ops/each.py); a bias is shared by all of them."""
    bias = jnp.asarray(np.random.default_rng(1).normal(size=(2, 70, 70)), jnp.float32)
    value = lambda bias, *heads: jnp.square(attention.attention(*heads, bias=bias, implementation="blocks")).sum()  # noqa: E731
    expected = jax.grad(value)(bias, *HEADS)
    mesh = jax.make_mesh((4, 2), ("data", "fsdp"), axis_types=(AxisType.Auto,) * 2, devices=jax.devices()[:8])
    with jax.set_mesh(mesh):
        placed = jax.device_put(HEADS, NamedSharding(mesh, P(("data", "fsdp"))))
        got = jax.jit(jax.grad(value))(bias, *placed)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-6)
