import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from sadist_jax.evals.edge_matching import match

WORTH = 100.0  # the benchmark's outlierCost


def row(text):
    return np.array([[c == "#" for c in text]])


def column(x, height=30, width=40):
    edges = np.zeros((height, width), bool)
    edges[:, x] = True
    return edges


@pytest.mark.parametrize(("shift", "found"), [(0, True), (3, True), (4, True), (5, False)])
def test_a_line_is_found_up_to_the_largest_distance(shift, found):
    a, b = column(10), column(10 + shift)
    matched = match(a, b, 4.0)
    np.testing.assert_array_equal(matched[0], a if found else np.zeros_like(a))
    np.testing.assert_array_equal(matched[1], b if found else np.zeros_like(b))


def test_the_largest_distance_is_a_circle():
    a, b = np.zeros((2, 9, 9), bool)
    a[2, 2] = b[5, 5] = True  # 3 * sqrt(2) = 4.243
    assert match(a, b, 4.25)[0].any()
    assert not match(a, b, 4.23)[0].any()


def test_one_pixel_serves_one_other_the_nearest():
    a, b = match(row("#..#...."), row("..#....."), 3.0)
    np.testing.assert_array_equal(a, row("...#...."))
    np.testing.assert_array_equal(b, row("..#....."))


def test_more_matches_are_better_than_near_ones():
    """3-2 is the nearest pair, but leaves 0 and 6 alone; 0-2 and 3-6 are two pairs."""
    a, b = row("#..#...."), row("..#...#.")
    matched = match(a, b, 3.0)
    np.testing.assert_array_equal(matched[0], a)
    np.testing.assert_array_equal(matched[1], b)


def test_chance_decides_between_equals_the_same_each_time():
    """Of two lines beside a third, each has about half of its matches: 15 of 30, with a deviation of 2.7."""
    both, line = column(9) | column(11), column(10)
    matched, _ = match(both, line, 1.0)
    assert matched.sum() == 30
    assert 5 <= matched[:, 9].sum() <= 25
    np.testing.assert_array_equal(match(both, line, 1.0)[0], matched)


def test_edges_of_the_image_do_not_wrap_around():
    a, b = np.zeros((2, 4, 6), bool)
    a[1, 5] = b[2, 0] = True
    assert not match(a, b, 2.0)[0].any()


def test_nothing_matches_nothing():
    a, none = column(3), np.zeros((30, 40), bool)
    for matched in (*match(a, none, 4.0), *match(none, a, 4.0), *match(none, none, 4.0)):
        assert matched.shape == a.shape
        assert not matched.any()


def cost_of(a, b, largest):
    """(distances, matches) of the best answer, from the benchmark's graph with all outliers that it could draw."""
    p, q = np.argwhere(a), np.argwhere(b)
    distance = np.linalg.norm(p[:, None] - q[None], axis=-1)
    n, m = distance.shape
    costs = np.full((n + m, m + n), WORTH * largest)
    costs[:n, :m] = np.where(distance <= largest, distance.round(2), 1e9)
    rows, columns = linear_sum_assignment(costs)
    real = (rows < n) & (columns < m)
    return costs[rows[real], columns[real]].sum(), int(real.sum())


@pytest.mark.parametrize("seed", range(12))
def test_random_maps_are_matched_as_cheaply_as_can_be(seed):
    rng = np.random.default_rng(seed)
    a, b = (rng.random((14, 17)) < share for share in rng.uniform(0.05, 0.4, 2))
    largest = float(rng.choice([1.0, 1.5, 2.9, 4.3]))
    distances, count = cost_of(a, b, largest)
    found_a, found_b = match(a, b, largest)
    assert found_a.sum() == found_b.sum() == count
    assert not (found_a & ~a).any()
    assert not (found_b & ~b).any()
    # the pixels that were chosen can be matched among themselves, all of them, at the best cost
    own_distances, own_count = cost_of(found_a, found_b, largest)
    assert own_count == count
    np.testing.assert_allclose(own_distances, distances)
