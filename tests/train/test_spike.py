import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sadist_jax.train.spike import WARMUP, WINDOW, is_spike, watch

K = 6.0


def after(values):
    """The optimiser's state after steps of these (loss, gradient norm)."""
    tx = optax.chain(watch(), optax.scale(-1.0))

    def step(state, pair):
        return tx.update({}, state, {}, loss=pair[0], grad_norm=pair[1])[1], None

    state, _ = jax.lax.scan(step, tx.init({}), jnp.asarray(values, jnp.float32))
    return state


def test_at_first_it_is_the_mean_and_variance():
    values = np.random.default_rng(0).normal(3, 2, (WINDOW, 2))
    spread = after(values)[0]
    np.testing.assert_allclose(spread.mean, values.mean(0), rtol=1e-5)
    np.testing.assert_allclose(spread.var, values.var(0), rtol=1e-4)


def test_later_old_values_fade():
    """Weights of an exponential average: (1 - 1/W)^age."""
    values = np.random.default_rng(1).normal(0, 1, (WINDOW + 300, 2)) + np.arange(WINDOW + 300)[:, None] / 50
    weights = np.full(WINDOW, 1 / WINDOW)
    for _ in range(300):
        weights = np.append(weights * (1 - 1 / WINDOW), 1 / WINDOW)
    mean = weights @ values
    spread = after(values)[0]
    np.testing.assert_allclose(spread.mean, mean, rtol=1e-4)
    np.testing.assert_allclose(spread.var, weights @ (values - mean) ** 2, rtol=1e-3)


@pytest.mark.parametrize("which", [0, 1])
def test_what_lies_k_deviations_above_the_mean_stands_out(which):
    values = np.random.default_rng(2).normal(5, 1, (WARMUP, 2))
    state, mean, std = after(values), values.mean(0), values.std(0)
    for away, expected in ((K - 0.1, False), (K + 0.1, True), (-K - 1, False)):
        pair = mean.copy()
        pair[which] += away * std[which]
        assert bool(is_spike(state, *map(jnp.float32, pair), K)) is expected


def test_the_first_steps_are_never_judged():
    state = after(np.ones((WARMUP - 1, 2)))
    assert not is_spike(state, jnp.float32(1e6), jnp.float32(1), K)
