"""All implementations against softmax written out in NumPy, float64."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sadist_jax.ops import attention as module
from sadist_jax.ops.attention import BLOCK, augment, choose, planned_for

ROWS, COLS, HEADS, DIM = 24, 32, 2, 8  # more keys than a block, so that `blocks` has several
TOKENS = ROWS * COLS

attention = jax.jit(module.attention, static_argnames="implementation")


@pytest.fixture(scope="module")
def operands():
    rng = np.random.default_rng(0)
    q, k, v = (rng.standard_normal((2, TOKENS, HEADS, DIM), np.float32) for _ in range(3))
    relative = tuple(rng.standard_normal((2, TOKENS, HEADS, n), np.float32) for n in (ROWS, COLS))
    where = rng.random((2, TOKENS)) < 0.7
    return q, k, v, relative, where


def written_out(q, k, v, relative=None, where=None):
    q, k, v = (x.astype(np.float64) for x in (q, k, v))
    scores = np.einsum("btnd,bsnd->bnts", q, k) / np.sqrt(q.shape[-1])
    if relative is not None:
        rel_h, rel_w = (np.swapaxes(x, 1, 2).astype(np.float64) for x in relative)
        bias = rel_h[..., :, None] + rel_w[..., None, :]
        scores = scores + bias.reshape(scores.shape)
    if where is not None:
        scores = np.where(where[:, None, None], scores, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return np.einsum("bnts,bsnd->btnd", weights / weights.sum(-1, keepdims=True), v)


def test_the_operands_fill_more_than_one_block():
    assert TOKENS > BLOCK
    assert TOKENS % BLOCK  # and the rows of a block are not simply BLOCK


@pytest.mark.parametrize("implementation", ["plain", "blocks", None])
@pytest.mark.parametrize("positions", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_it_is_softmax(operands, implementation, positions, masked):
    q, k, v, relative, where = operands
    given = {"relative": relative if positions else None, "where": where if masked else None}
    y = attention(q, k, v, **given, implementation=implementation)
    assert y.dtype == jnp.float32
    np.testing.assert_allclose(y, written_out(q, k, v, **given), atol=3e-6)


def test_more_queries_than_keys_and_the_other_way_round(operands):
    q, k, v, _, where = operands
    few = slice(0, 7)
    np.testing.assert_allclose(attention(q, k[:, few], v[:, few]), written_out(q, k[:, few], v[:, few]), atol=3e-6)
    expected = written_out(q[:, few], k, v, where=where)
    np.testing.assert_allclose(attention(q[:, few], k, v, where=where), expected, atol=3e-6)


@pytest.mark.parametrize("implementation", ["blocks", "augmented"])
def test_gradients_agree_with_the_plain_form(operands, implementation):
    q, k, v, relative, _ = operands
    weights = np.random.default_rng(1).standard_normal(q.shape, np.float32)

    def total(implementation, q, k, v, relative):
        if implementation == "augmented":
            longer, keys = augment(q, k, relative)
            y = attention(longer * longer.shape[-1] ** 0.5, keys, v, implementation="plain")
        else:
            y = attention(q, k, v, relative=relative, implementation=implementation)
        return jnp.vdot(y, weights)

    gradient = jax.jit(jax.grad(total, argnums=(1, 2, 3, 4)), static_argnums=0)
    both = (jax.tree.leaves(gradient(form, q, k, v, relative)) for form in (implementation, "plain"))
    for ours, expected in zip(*both, strict=True):
        np.testing.assert_allclose(ours, expected, atol=2e-5)


def test_a_fused_kernel_without_bias_gets_the_relative_positions(operands, monkeypatch):
    """As extra channels of q and k; here JAX's own code stands in for the kernel, which needs a GPU."""
    q, k, v, relative, _ = operands
    longer, keys = augment(q, k, relative)
    assert longer.shape[-1] == keys.shape[-1] == DIM + ROWS + COLS
    wanted = {"implementation": "cudnn"}
    fused = jax.nn.dot_product_attention

    def without_a_gpu(*operands, **options):
        assert wanted.items() <= options.items()
        return fused(*operands, **options | {"implementation": "xla"})

    monkeypatch.setattr(jax.nn, "dot_product_attention", without_a_gpu)
    y = attention(q, k, v, relative=relative, implementation="cudnn")
    np.testing.assert_allclose(y, written_out(q, k, v, relative), atol=3e-6)
    odd = slice(0, 5)  # head dimensions that are no multiple of 8 are filled up
    y = attention(q[..., odd], k[..., odd], v[..., odd], implementation="cudnn")
    np.testing.assert_allclose(y, written_out(q[..., odd], k[..., odd], v[..., odd]), atol=3e-6)


@pytest.mark.gpu
@pytest.mark.parametrize("with_positions", [False, True])
def test_the_fused_kernel_agrees_with_the_plain_form_in_float32(operands, with_positions):
    """Values and gradients in bfloat16, two images: relative errors in norm, a few of its steps of 2^-8."""
    *operands, _ = operands
    half = jax.tree.map(lambda x: jnp.asarray(x, jnp.bfloat16), operands if with_positions else [*operands[:3], None])
    full = jax.tree.map(lambda x: x.astype(jnp.float32), half)
    weights = np.random.default_rng(1).standard_normal(half[2].shape, np.float32)

    def total(implementation, q, k, v, relative):
        y = attention(q, k, v, relative=relative, implementation=implementation)
        return jnp.vdot(y.astype(jnp.float32), weights), y

    both = jax.jit(jax.grad(total, argnums=(1, 2, 3), has_aux=True), static_argnums=0)
    ours, expected = both("cudnn", *half), both("plain", *full)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(expected), strict=True):
        assert jnp.linalg.norm(a.astype(jnp.float32) - b) < 0.03 * jnp.linalg.norm(b)


@pytest.mark.parametrize("implementation", ["plain", "blocks"])
def test_a_row_without_any_key_gives_the_mean_and_finite_gradients(operands, implementation):
    q, k, v, _, _ = operands
    nothing = np.zeros((2, TOKENS), bool)

    def total(q, k, v):
        return attention(q, k, v, where=nothing, implementation=implementation).sum()

    y = attention(q, k, v, where=nothing, implementation=implementation)
    np.testing.assert_allclose(y, np.broadcast_to(v.mean(1, keepdims=True), y.shape), atol=1e-6)
    assert all(np.isfinite(g).all() for g in jax.grad(total, argnums=(0, 1, 2))(q, k, v))


def test_keys_that_are_masked_out_do_not_matter(operands):
    q, k, v, _, where = operands
    other = np.where(where[..., None, None], k, 1e4), np.where(where[..., None, None], v, -1e4)
    np.testing.assert_array_equal(attention(q, *other, where=where), attention(q, k, v, where=where))


@pytest.mark.parametrize("implementation", ["plain", "blocks"])
def test_bfloat16_is_summed_in_float32(operands, implementation):
    q, k, v, relative, _ = operands
    low, relative_low = jax.tree.map(lambda x: jnp.asarray(x, jnp.bfloat16), ((q, k, v), relative))
    y = attention(*low, relative=relative_low, implementation=implementation)
    assert y.dtype == jnp.bfloat16
    exact = written_out(*jax.tree.map(lambda x: np.asarray(x, np.float32), (*low, relative_low)))
    np.testing.assert_allclose(y.astype(np.float32), exact, atol=0.03)


def test_float64_stays_float64(operands):
    q, k, v, relative, where = operands
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), (q, k, v, relative))
        y = attention(*wide[:3], relative=wide[3], where=where)
        assert y.dtype == jnp.float64
        np.testing.assert_allclose(y, written_out(q, k, v, relative, where), atol=1e-13)


def on_a_gpu(monkeypatch, capability):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(jax, "devices", lambda: [SimpleNamespace(compute_capability=capability)])


def chosen(dim, side, *, dtype="bfloat16", relative=True, where=None):
    """What is chosen for side * side tokens."""
    q = jax.ShapeDtypeStruct((1, side**2, 2, dim), dtype)
    rel = jax.ShapeDtypeStruct((1, side**2, 2, side), dtype)
    return module.choose(q, q, (rel, rel) if relative else None, where)


@pytest.mark.parametrize(
    ("capability", "dim", "side", "expected"),
    [
        ("9.0", 64, 64, "cudnn"),  # SAM's ViT-B and L: 64 + 2 * 64 = 192 channels
        ("9.0", 80, 64, "cudnn"),  # ViT-H: 208
        ("9.0", 80, 96, "blocks"),  # ViT-H with 96 x 96 tokens: 272
        ("10.0", 80, 64, "cudnn"),
        ("8.0", 64, 64, "blocks"),
        ("8.9", 64, 32, "cudnn"),  # 128
        ("8.9", 65, 32, "blocks"),  # 129, filled up to 136
        ("7.5", 32, 32, "blocks"),
        ("gfx90a", 32, 32, "blocks"),  # AMD
    ],
)
def test_the_fused_kernel_is_chosen_where_its_channels_suffice(monkeypatch, capability, dim, side, expected):
    on_a_gpu(monkeypatch, capability)
    assert chosen(dim, side) == expected


def test_without_relative_positions_the_head_alone_must_fit(monkeypatch):
    on_a_gpu(monkeypatch, "8.0")
    assert chosen(64, 64, relative=False) == "cudnn"
    assert chosen(64, 64, relative=False, dtype="float32") == "blocks"
    assert chosen(64, 64, relative=False, where=np.ones((1, 4096), bool)) == "blocks"
    assert chosen(64, 14, relative=False) == "plain"


def test_a_cpu_never_gets_the_fused_kernel():
    assert chosen(64, 64) == "blocks"


def test_plans_choose_as_the_other_platform_would():
    few, many = jnp.zeros((1, 196, 2, 8), jnp.bfloat16), jnp.zeros((1, 1024, 2, 8), jnp.bfloat16)
    assert choose(few, few, None, None) == "blocks"
    with planned_for("gpu"):
        assert (choose(few, few, None, None), choose(many, many, None, None)) == ("plain", "blocks")
    assert choose(few, few, None, None) == "blocks"
