"""Low-rank updates against the same layer with the kernel W + scale * A B, made here term by term."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sadist_jax.nn import layers
from sadist_jax.nn.blocks import tower
from sadist_jax.nn.conv_norm import conv_norm, conv_norm_table
from tests.nn.test_layers import draw, parameters

RANK, SCALE = 2, 0.75


def updates(a, b, seed=1) -> dict[str, np.ndarray]:
    return {"a": draw(*a, RANK, seed=seed), "b": draw(RANK, *b, seed=seed), "scale": np.float32(SCALE)}


def product(part) -> np.ndarray:
    """(what A sees, what B makes): scale * sum over ranks of A[..., r] B[r, ...]."""
    return SCALE * sum(np.multiply.outer(part["a"][..., r], part["b"][r]) for r in range(RANK))


def test_all_outputs_of_a_dense_layer():
    p, x = parameters(layers.dense_table(3, 4)), draw(2, 5, 3)
    lora = updates((3,), (4,))
    y = layers.dense({**p, "lora": {"all": lora}}, x)
    np.testing.assert_allclose(y, x @ (p["weight"] + product(lora)) + p["bias"], atol=1e-5)


def test_q_and_v_of_a_fused_layer_and_nothing_of_k():
    p, x = parameters(layers.dense_table(5, 12)), draw(7, 5)
    q, v = updates((5,), (4,), seed=1), updates((5,), (4,), seed=2)
    y = layers.dense({**p, "lora": {"q": q, "v": v}}, x)
    base = x @ p["weight"] + p["bias"]
    np.testing.assert_allclose(y[:, :4], base[:, :4] + x @ product(q), atol=1e-5)
    np.testing.assert_allclose(y[:, 4:8], base[:, 4:8], atol=1e-6)
    np.testing.assert_allclose(y[:, 8:], base[:, 8:] + x @ product(v), atol=1e-5)


def test_heads_that_have_their_q_k_and_v_side_by_side():
    heads, channels = 3, 2
    p, x = parameters(layers.dense_table(5, heads * 3 * channels)), draw(7, 5)
    k, v = updates((5,), (heads, channels), seed=1), updates((5,), (heads, channels), seed=2)
    y = layers.dense({**p, "lora": {"k": k, "v": v}}, x).reshape(7, heads, 3, channels)
    base = (x @ p["weight"] + p["bias"]).reshape(7, heads, 3, channels)
    for head in range(heads):
        np.testing.assert_allclose(y[:, head, 0], base[:, head, 0], atol=1e-6)
        np.testing.assert_allclose(y[:, head, 1], base[:, head, 1] + x @ product(k)[:, head], atol=1e-5)
        np.testing.assert_allclose(y[:, head, 2], base[:, head, 2] + x @ product(v)[:, head], atol=1e-5)


@pytest.mark.parametrize(("stride", "padding"), [(1, 1), (2, 0)])
def test_a_convolution(stride, padding):
    p, x = parameters(layers.conv_table(2, 4, 3)), draw(3, 5, 6, 2)
    lora = updates((3, 3, 2), (4,))
    y = layers.conv({**p, "lora": {"all": lora}}, x, stride=stride, padding=padding)
    whole = layers.conv({**p, "weight": p["weight"] + product(lora)}, x, stride=stride, padding=padding)
    np.testing.assert_allclose(y, whole, atol=1e-5)


def test_a_convolution_of_patches():
    p, x = parameters(layers.conv_table(3, 5, 4)), draw(2, 8, 12, 3)
    lora = updates((4, 4, 3), (5,))
    y = layers.patch_conv({**p, "lora": {"all": lora}}, x)
    np.testing.assert_allclose(y, layers.patch_conv({**p, "weight": p["weight"] + product(lora)}, x), atol=2e-5)


def test_a_transposed_convolution():
    p, x = parameters(layers.up_table(3, 5)), draw(4, 6, 3)
    lora = updates((3,), (2, 2, 5))
    weight = p["weight"] + product(lora).transpose(1, 2, 0, 3)
    y = layers.up({**p, "lora": {"all": lora}}, x)
    np.testing.assert_allclose(y, layers.up({**p, "weight": weight}, x), atol=1e-5)


def test_a_norm_that_is_folded_into_its_convolution_scales_the_update_too():
    made = conv_norm_table(2, 4, 3)
    p, x = {"c": parameters(made["c"]), "bn": parameters(made["bn"])}, draw(1, 5, 6, 2)
    p["bn"]["running_var"] = np.abs(p["bn"]["running_var"]) + 0.5
    lora = updates((3, 3, 2), (4,))
    y = conv_norm({"c": {**p["c"], "lora": {"all": lora}}, "bn": p["bn"]}, x, padding=1)
    whole = {"c": {"weight": p["c"]["weight"] + product(lora)}, "bn": p["bn"]}
    np.testing.assert_allclose(y, conv_norm(whole, x, padding=1), atol=1e-5)


def test_groups_are_refused():
    p = parameters(layers.conv_table(2, 4, 3))
    with pytest.raises(ValueError, match="2 groups"):
        layers.conv({**p, "lora": {"all": updates((3, 3, 2), (4,))}}, draw(1, 5, 6, 4))


def test_the_dtype_is_that_of_the_input_and_the_update_of_a_kernel_is_never_made():
    p = {**parameters(layers.dense_table(64, 96)), "lora": {"v": updates((64,), (32,))}}
    assert layers.dense(p, jnp.ones((5, 64), jnp.bfloat16)).dtype == jnp.bfloat16
    equations = jax.make_jaxpr(layers.dense)(p, jnp.ones((5, 64))).eqns
    products = [e.outvars[0].aval.shape for e in equations if e.primitive.name == "dot_general"]
    assert products == [(5, 96), (5, RANK), (5, 96)]


def test_a_batch_of_adapters():
    """One adapter an image, under vmap, as every other leaf."""
    p, x = parameters(layers.dense_table(5, 12)), draw(2, 7, 5)
    two = [{"q": updates((5,), (4,), seed=i)} for i in (1, 2)]
    both = jax.tree.map(lambda *leaves: np.stack(leaves), *two)
    y = jax.vmap(lambda lora, x: layers.dense({**p, "lora": lora}, x))(both, x)
    for i, lora in enumerate(two):
        np.testing.assert_allclose(y[i], layers.dense({**p, "lora": lora}, x[i]), atol=1e-5)


@pytest.mark.parametrize("adapted", [(0, 1, 2, 3), (2, 3), (1, 3), ()])
def test_blocks_are_recomputed_wherever_the_adapters_lie(adapted):
    blocks = {str(i): {"fc": parameters(layers.dense_table(6, 6))} for i in range(4)}
    for i in adapted:
        blocks[str(i)]["fc"] = blocks[str(i)]["fc"] | {"lora": {"all": updates((6,), (6,), seed=i)}}

    def total(blocks, remat):
        block = lambda p, x, kind: x + jnp.tanh(layers.dense(p["fc"], x))  # noqa: E731
        out, aux = tower(block, blocks, draw(5, 6), "wwww", remat=remat)
        return sum((y**2).sum() for y in aux.values()), out

    (expected, out), (found, again) = (jax.grad(total, has_aux=True)(blocks, remat) for remat in (False, True))
    np.testing.assert_allclose(again, out, atol=1e-5)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-4), found, expected)
