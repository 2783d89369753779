import numpy as np
import pytest
from scipy import stats

from sadist_jax.evals import bootstrap
from sadist_jax.evals.bootstrap import bootstrap_difference, bootstrap_mean


@pytest.mark.parametrize(("n", "ones"), [(50, 15), (400, 40)])
def test_the_interval_of_a_proportion_is_the_binomials(n, ones):
    """A draw of n values, `ones` of which are 1, sums to Binomial(n, ones / n)."""
    values = np.arange(n) < ones
    found = bootstrap_mean(values, resamples=20_000)
    expected = stats.binom.ppf([0.025, 0.975], n, ones / n) / n
    assert found.mean == ones / n
    np.testing.assert_allclose([found.low, found.high], expected, atol=1.01 / n)


def test_the_level_is_that_of_the_interval():
    values = np.arange(200) < 100
    found = bootstrap_mean(values, level=0.5, resamples=20_000)
    np.testing.assert_allclose([found.low, found.high], stats.binom.ppf([0.25, 0.75], 200, 0.5) / 200, atol=1.01 / 200)


def test_a_constant_difference_is_certain():
    a = np.random.default_rng(0).random(30)
    found = bootstrap_difference(a + 0.25, a)
    np.testing.assert_allclose(found, [0.25] * 3)


def test_pairing_removes_what_both_share():
    rng = np.random.default_rng(1)
    hard, noise = rng.normal(0, 1.0, 500), rng.normal(0, 0.01, 500)
    found = bootstrap_difference(hard + noise, hard)
    half = 1.96 * noise.std() / np.sqrt(500)  # the normal approximation
    np.testing.assert_allclose([found.low, found.high], [noise.mean() - half, noise.mean() + half], atol=0.1 * half)


def test_groups_are_drawn_whole():
    """Three equal values in each of 60 groups know no more than 60 values do."""
    values = np.random.default_rng(2).random(60)
    groups = np.repeat([f"image {i}" for i in range(60)], 3)
    whole = bootstrap_mean(np.repeat(values, 3), groups)
    one_each = bootstrap_mean(values)
    np.testing.assert_allclose(whole, one_each, atol=0.01)
    blind = bootstrap_mean(np.repeat(values, 3))
    np.testing.assert_allclose((blind.high - blind.low) / (whole.high - whole.low), 3**-0.5, rtol=0.1)


def test_groups_of_unequal_size_count_by_their_values():
    """Groups {0} and {1, 1, 1}: draws give means 0, 3/4, 1 with 1/4, 1/2, 1/4."""
    found = bootstrap_mean(np.array([0, 1, 1, 1.0]), np.array([0, 1, 1, 1]), level=0.4)
    assert found == (0.75, 0.75, 0.75)
    assert bootstrap_mean(np.array([0, 1, 1, 1.0]), np.array([0, 1, 1, 1]), level=0.6) == (0.75, 0.0, 1.0)


def test_the_seed_decides(monkeypatch):
    values = np.random.default_rng(3).random(40)
    assert bootstrap_mean(values) == bootstrap_mean(values)
    assert bootstrap_mean(values, seed=1) != bootstrap_mean(values)
    whole = bootstrap_mean(values)
    monkeypatch.setattr(bootstrap, "BLOCK", 400)
    assert bootstrap_mean(values) == whole


@pytest.mark.parametrize("values", [[], [np.nan], [[1.0]]])
def test_what_has_no_mean_is_refused(values):
    with pytest.raises(ValueError, match="finite values"):
        bootstrap_mean(np.array(values))


def test_rows_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="equal numbers"):
        bootstrap_difference(np.zeros(2), np.zeros(3))
    with pytest.raises(ValueError, match="2 values and groups for 3"):
        bootstrap_mean(np.zeros(2), np.zeros(3))
