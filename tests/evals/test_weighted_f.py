"""Weighted F: values worked out from the paper's formulas, and those of PySODMetrics."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sadist_jax.evals.weighted_f import weighted_f

SIDE = 9
OBJECT = np.pad(np.ones((SIDE, SIDE), bool), 20)


def f(precision, recall, beta2=1.0):
    return (1 + beta2) * precision * recall / (beta2 * precision + recall)


def pictures(seed, row):
    """(prediction float, truth bool) of 48 x 64 pixels: a blob, and a blurred and moved one with noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:48, :64]
    truth = (y - row) ** 2 + 0.5 * (x - 30) ** 2 < 150
    soft = np.clip(1 - np.hypot(y - row - 3, x - 33) / 24, 0, 1)
    return np.clip(soft + 0.3 * rng.random((48, 64)) - 0.1, 0, 1), truth


# From pysodmetrics 1.6.2 (MIT), by
#   python -c "measure = WeightedFmeasure(beta=beta2); measure.step(prediction, truth, normalize=False)"
# with predictions as float64, then measure.get_results().
PYSODMETRICS = [  # seed, row, threshold, F for beta2 = 1, for beta2 = 0.3
    (0, 24, None, 0.5131791634869123, 0.4646469082746771),
    (0, 24, 0.5, 0.7981420827073601, 0.8081398058783186),
    (1, 4, None, 0.5035620117596344, 0.43611561714289787),  # leaves the picture at the top
    (1, 4, 0.5, 0.8139054703294157, 0.7957275095664664),
    (2, 46, None, 0.45958256035081346, 0.4041664851705405),  # at the bottom
    (2, 46, 0.5, 0.8315097147725466, 0.899908870246811),
]


@pytest.mark.parametrize(("seed", "row", "threshold", "one", "less"), PYSODMETRICS)
def test_values_equal_pysodmetrics(seed, row, threshold, one, less):
    prediction, truth = pictures(seed, row)
    prediction = prediction if threshold is None else prediction > threshold
    assert weighted_f(prediction, truth) == pytest.approx(one, rel=1e-12)
    assert weighted_f(prediction, truth, beta2=0.3) == pytest.approx(less, rel=1e-12)


@pytest.mark.parametrize("distance", [1, 5, 12])
def test_a_wrong_background_pixel_weighs_more_the_farther_it_is(distance):
    """No errors on the object: R = 1. One error of 1 at distance d: FP = 2 - 0.5^(d / 5), so 1.5 at d = 5."""
    prediction = OBJECT.copy()
    prediction[24, 28 + distance] = True  # the object's last column is 28
    precision = SIDE**2 / (SIDE**2 + 2 - 0.5 ** (distance / 5))
    assert weighted_f(prediction, OBJECT) == pytest.approx(f(precision, 1), rel=1e-12)
    assert weighted_f(prediction, OBJECT, beta2=4.0) == pytest.approx(f(precision, 1, 4.0), rel=1e-12)


def test_a_missed_pixel_amid_hits_counts_by_the_middle_of_the_gaussian():
    """Its error 1 becomes 1 / (sum of exp(-x^2 / 50) for x = -3 .. 3)^2; the others have none. P = 1."""
    prediction = OBJECT.copy()
    prediction[24, 24] = False
    middle = 1 / np.exp(-(np.arange(-3, 4) ** 2) / 50).sum() ** 2
    assert weighted_f(prediction, OBJECT) == pytest.approx(f(1, 1 - middle / SIDE**2), rel=1e-12)


@pytest.mark.parametrize("p", [0.0, 0.25, 1.0])
def test_an_even_prediction_has_its_value_as_recall(p):
    """E = 1 - p on the object, and around it too (the background has the error of the nearest): R = p, P = 1."""
    assert weighted_f(p * OBJECT, OBJECT) == pytest.approx(2 * p / (1 + p), abs=1e-12)


def test_the_border_of_the_picture_forgives():
    """A whole row missed at the top: beyond it are zeros, so less than the whole error remains."""
    truth = np.zeros((20, 20), bool)
    truth[0] = True
    assert 0.1 < weighted_f(np.zeros((20, 20)), truth) < 0.9


def test_without_an_object_there_is_nothing_to_find():
    assert weighted_f(np.ones((5, 5), bool), np.zeros((5, 5), bool)) == 0
    assert weighted_f(np.zeros((5, 5), bool), np.zeros((5, 5), bool)) == 0


@settings(max_examples=60)
@given(st.data(), hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12))
def test_it_lies_in_0_to_1_and_the_truth_itself_is_perfect(data, shape):
    truth = data.draw(hnp.arrays(bool, shape))
    prediction = data.draw(hnp.arrays(float, shape, elements=st.floats(0, 1)))
    assert 0 <= weighted_f(prediction, truth) <= 1 + 1e-12
    assert weighted_f(truth, truth) == float(truth.any())


@pytest.mark.parametrize("value", [-0.1, 1.1, np.nan])
def test_predictions_are_probabilities(value):
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        weighted_f(np.full((3, 3), value), np.ones((3, 3), bool))


def test_sizes_must_agree():
    with pytest.raises(ValueError, match=r"\(3, 4\) pixels, the truth \(4, 3\)"):
        weighted_f(np.ones((3, 4), bool), np.ones((4, 3), bool))
