import numpy as np
import pytest
import scipy.stats

from sadist_jax.ops.beta import beta_quantile


@pytest.mark.parametrize("a", [0.1, 0.4, 0.8, 1.0, 2.0, 4.0])
def test_quantiles_are_scipys(a):
    rare = np.logspace(-6, -3, 101)  # where the distribution function is flat
    share = np.unique(np.concatenate([np.linspace(0, 1, 1001), rare])).astype(np.float32)
    found = np.asarray(beta_quantile(share, a))
    np.testing.assert_allclose(found, scipy.stats.beta.ppf(share.astype(np.float64), a, a), atol=1e-3)
    assert (np.diff(found) >= 0).all()
    assert (found[0], found[-1]) == (0, 1)
