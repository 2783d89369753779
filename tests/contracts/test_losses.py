"""What every loss promises, for every name in `losses.__all__`: a new loss is under contract as soon as it is exported.

The sixth promise, the closed-form value, is each loss's own and stands in tests/losses.
"""

import inspect
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from sadist_jax import losses

LEADING = (8, 2)  # image, instance
KEPT = 3  # elements of the last axis that the `where` of these tests keeps
COLLECTIVES = re.compile(r"\b(all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter)")

# How to draw an argument, by its name; a loss with an argument of a new name adds a line.
ARGUMENTS = {
    "logits": lambda rng: rng.normal(0, 3, (*LEADING, 6, 5)).astype(np.float32),
    "targets": lambda rng: rng.integers(0, 2, (*LEADING, 6, 5)).astype(np.uint8),
    "predicted_iou": lambda rng: rng.uniform(0, 1, LEADING).astype(np.float32),
    "class_logits": lambda rng: rng.normal(0, 3, (*LEADING, 7)).astype(np.float32),
    "probabilities": lambda rng: rng.dirichlet(np.ones(7), LEADING).astype(np.float32),
    "student": lambda rng: rng.normal(0, 1, (*LEADING, 7)).astype(np.float32),
    "teacher": lambda rng: rng.normal(0, 1, (*LEADING, 7)).astype(np.float32),
    "instances": lambda rng: rng.normal(0, 1, (*LEADING, 5, 7)).astype(np.float32),
    "anchors": lambda rng: rng.normal(0, 1, (*LEADING, 5, 7)).astype(np.float32),
}

pytestmark = pytest.mark.parametrize("name", losses.__all__)


def draw(name: str) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    parameters = inspect.signature(getattr(losses, name)).parameters.values()
    names = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    unknown = set(names) - set(ARGUMENTS)
    assert not unknown, f"{name} takes {unknown}: say in ARGUMENTS how to draw it"
    return [ARGUMENTS[n](rng) for n in names]


def elements(arguments: list[np.ndarray]) -> tuple[int, ...]:
    """Shape of what `where` masks: that of the argument with the most axes."""
    return max((a.shape for a in arguments), key=len)


def gradients(loss, arguments, where=None):
    floats = tuple(i for i, a in enumerate(arguments) if jnp.issubdtype(a.dtype, jnp.floating))
    return jax.grad(lambda *a: jnp.sum(loss(*a, where=where)), argnums=floats)(*arguments)


def test_leading_axes_stay_and_options_are_keyword_only(name):
    loss, arguments = getattr(losses, name), draw(name)
    value = loss(*arguments)
    assert value.shape == elements(arguments)[: value.ndim]
    assert value.ndim >= len(LEADING)
    assert value.dtype == jnp.float32
    options = [p for p in inspect.signature(loss).parameters.values() if p.name not in ARGUMENTS]
    assert "where" in [p.name for p in options]
    assert all(p.kind is p.KEYWORD_ONLY and p.default is not p.empty for p in options)


def test_masked_equals_subset(name):
    """What is left out may be NaN: value and gradient are those of an array that never had it."""
    loss, arguments = getattr(losses, name), draw(name)
    shape = elements(arguments)
    where = np.broadcast_to(np.arange(shape[-1]) < KEPT, shape)
    part = [a[..., :KEPT] if a.ndim > len(LEADING) else a for a in arguments]
    spoilt = [
        np.where(where, a, np.nan if a.dtype.kind == "f" else 255).astype(a.dtype) if a.ndim > len(LEADING) else a
        for a in arguments
    ]
    value, expected = loss(*spoilt, where=where), loss(*part)
    if value.shape == shape:
        np.testing.assert_array_equal(value[..., KEPT:], 0)
        value = value[..., :KEPT]
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    for whole, small in zip(gradients(loss, spoilt, where), gradients(loss, part), strict=True):
        if whole.ndim > len(LEADING):
            np.testing.assert_array_equal(whole[..., KEPT:], 0)
            whole = whole[..., :KEPT]
        np.testing.assert_allclose(whole, small, rtol=1e-5, atol=1e-7)


def test_fully_masked_is_zero_with_zero_gradient(name):
    loss, arguments = getattr(losses, name), draw(name)
    where = np.zeros(elements(arguments), bool)
    np.testing.assert_array_equal(loss(*arguments, where=where), 0)
    for gradient in gradients(loss, arguments, where):
        np.testing.assert_array_equal(gradient, 0)


@pytest.mark.parametrize("scale", [0.0, 1e4, -1e4])
def test_extreme_predictions_have_finite_value_and_gradient(name, scale):
    """All zero, and 1e4 times the sign: sigmoids saturate in both the right and the wrong direction."""
    loss = getattr(losses, name)
    arguments = [np.sign(a) * np.float32(scale) if a.dtype.kind == "f" else a for a in draw(name)]
    assert np.isfinite(loss(*arguments)).all()
    for gradient in gradients(loss, arguments):
        assert np.isfinite(gradient).all()


def test_jit_equals_eager(name):
    loss, arguments = getattr(losses, name), draw(name)
    where = np.random.default_rng(1).uniform(size=elements(arguments)) < 0.7
    jitted = jax.jit(lambda where, *a: loss(*a, where=where))(where, *arguments)
    np.testing.assert_allclose(jitted, loss(*arguments, where=where), rtol=1e-5, atol=1e-7)


def test_bfloat16_in_is_float32_arithmetic(name):
    """bfloat16 inputs cost their own rounding and no more: the result is that of the same numbers in float32."""
    loss = getattr(losses, name)
    rounded = [jnp.asarray(a, jnp.bfloat16) if a.dtype.kind == "f" else jnp.asarray(a) for a in draw(name)]
    value = loss(*rounded)
    assert value.dtype == jnp.float32
    widened = [a.astype(jnp.float32) if a.dtype == jnp.bfloat16 else a for a in rounded]
    np.testing.assert_allclose(value, loss(*widened), rtol=1e-6)
    for gradient, a in zip(gradients(loss, rounded), [a for a in rounded if a.dtype == jnp.bfloat16], strict=True):
        assert gradient.dtype == jnp.bfloat16
        assert gradient.shape == a.shape


@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit], ids=["auto", "explicit"])
def test_sharded_equals_unsharded_without_communication(name, axis_type):
    """Images over one mesh axis, instances over the other: value and gradient stay where their rows are."""
    loss, arguments = getattr(losses, name), draw(name)
    where = np.random.default_rng(1).uniform(size=elements(arguments)) < 0.7
    assert jax.device_count() >= 8, "tests/conftest.py gives the CPU 8 devices"
    mesh = jax.make_mesh((4, 2), ("data", "fsdp"), axis_types=(axis_type,) * 2, devices=jax.devices()[:8])

    def value_and_gradient(where, *arguments):
        return loss(*arguments, where=where), gradients(loss, arguments, where)

    expected = value_and_gradient(where, *arguments)
    with jax.set_mesh(mesh):
        placed = jax.device_put((where, *arguments), NamedSharding(mesh, P("data", "fsdp")))
        compiled = jax.jit(value_and_gradient).lower(*placed).compile()
        value, gradient = compiled(*placed)
    assert not COLLECTIVES.findall(compiled.as_text())
    assert value.sharding.is_equivalent_to(NamedSharding(mesh, P("data", "fsdp")), value.ndim)
    for got, wanted in zip(jax.tree.leaves((value, gradient)), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(np.asarray(got), wanted, rtol=1e-5, atol=1e-7)
