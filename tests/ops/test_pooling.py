import jax
import jax.numpy as jnp
import numpy as np

from sadist_jax.ops.pooling import mean_direction


def test_mean_of_unit_features_equals_a_loop():
    rng = np.random.default_rng(0)
    features, masks = rng.normal(size=(2, 4, 5, 3)), rng.uniform(size=(2, 6, 4, 5)) < 0.4
    masks[0, 2] = False
    found = mean_direction(jnp.asarray(features), masks)
    for b in range(2):
        for k in range(6):
            inside = features[b][masks[b, k]]
            unit = inside / np.linalg.norm(inside, axis=1, keepdims=True)
            expected = unit.mean(0) if len(unit) else np.zeros(3)
            np.testing.assert_allclose(found[b, k], expected, rtol=1e-5, atol=1e-6)


def test_the_length_of_a_feature_does_not_count_and_zero_has_no_direction():
    """Opposite features cancel out, however much longer one of them is; the gradient at zero is finite."""
    features = jnp.array([[[1e3, 0.0], [-1e-3, 0.0], [0.0, 0.0]]])
    masks = jnp.ones((1, 1, 3), bool)
    np.testing.assert_allclose(mean_direction(features, masks), 0, atol=1e-6)
    assert np.isfinite(jax.grad(lambda x: mean_direction(x, masks).sum())(features)).all()


def test_bfloat16_is_pooled_in_float32():
    assert mean_direction(jnp.ones((2, 2, 3), jnp.bfloat16), jnp.ones((1, 2, 2), bool)).dtype == jnp.float32
