import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sadist_jax import tree
from sadist_jax.nn.blocks import period, tower

DIM = 64


def block(params, x, kind):
    """Blocks of different kinds have weights of different shapes, as windowed and global attention have."""
    hidden = jnp.tanh(x @ params["up"])
    return x + hidden @ params["down"] / (1 + len(kind))


def draw(kinds):
    rng, wide = np.random.default_rng(0), {"w": 4 * DIM, "g": 6 * DIM}
    shapes = [{"up": (DIM, wide[kind]), "down": (wide[kind], DIM)} for kind in kinds]
    return {
        str(i): {n: 0.1 * rng.standard_normal(s, np.float32) for n, s in row.items()} for i, row in enumerate(shapes)
    }


@pytest.mark.parametrize("kinds", ["w", "wwww", "wwgwwg", "wgw", "wwwwg"])
def test_recomputed_blocks_give_the_same_values_and_gradients_at_every_depth(kinds):
    params, x = draw(kinds), np.random.default_rng(1).standard_normal((8, DIM), np.float32)

    def total(params, remat):
        out, aux = tower(block, params, x, kinds, remat=remat)
        assert list(aux) == [f"block{i}" for i in range(len(kinds))]
        return (out**2).sum() + sum((i + 1) * jnp.sin(a).sum() for i, a in enumerate(aux.values())), (out, aux)

    results = [jax.jit(jax.grad(total, has_aux=True), static_argnums=1)(params, remat) for remat in (False, True)]
    expected, found = (tree.flatten({"gradient": g, "aux": aux, "out": out}) for g, (out, aux) in results)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-4 * np.abs(value).max(), err_msg=name)


@pytest.mark.parametrize(("kinds", "expected"), [("w", 1), ("wwww", 1), ("wwgwwg", 3), ("wgw", 3), ("gwgw", 2)])
def test_the_body_of_the_scan_is_the_shortest_repeated_pattern(kinds, expected):
    assert period(kinds) == expected


def test_recomputing_takes_less_memory():
    kinds = "w" * 8
    x = jax.ShapeDtypeStruct((4096, DIM), np.float32)

    def temporary(remat):
        loss = lambda params, x: (tower(block, params, x, kinds, remat=remat)[0] ** 2).sum()  # noqa: E731
        return jax.jit(jax.grad(loss)).lower(draw(kinds), x).compile().memory_analysis().temp_size_in_bytes

    assert temporary(True) < temporary(False) / 2
