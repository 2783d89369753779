import json
import math
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sadist_jax.train import chart
from sadist_jax.train.chart import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Chart, Series

numbers = st.floats(-1e9, 1e9, allow_nan=False)


def lines(figure):
    """[(u, v) arrays] of the polylines, in the order drawn."""
    root = ET.fromstring(figure)
    found = [line.get("points") for line in root.iter("polyline")]
    return [np.array([pair.split(",") for pair in points.split()], float).T for points in found]


@given(numbers, numbers, st.integers(3, 10))
def test_ticks_are_round_evenly_spaced_and_inside(a, b, most):
    low, high = min(a, b), max(a, b)
    if high - low < 1e-6 * max(abs(low), abs(high), 1e-3):
        return
    found = np.array(chart.ticks(low, high, most))
    assert 1 <= len(found) <= most
    slack = 1e-6 * (high - low)
    assert found.min() >= low - slack
    assert found.max() <= high + slack
    if len(found) > 1:
        step = found[1] - found[0]
        assert np.allclose(np.diff(found), step, rtol=1e-3)
        assert round(step / 10 ** math.floor(math.log10(step * 1.001)), 3) in (1, 2, 5)


@given(st.floats(-8, 8), st.floats(0.01, 12))
def test_log_ticks_are_inside_increasing_and_few(exponent, decades):
    low, high = 10.0**exponent, 10.0 ** (exponent + decades)
    found = np.array(chart.log_ticks(low, high))
    assert 1 <= len(found) <= 7
    assert (np.diff(found) > 0).all()
    assert found.min() >= low * (1 - 1e-6)
    assert found.max() <= high * (1 + 1e-6)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (20000, "20k"),
        (1500, "1.5k"),
        (1234, "1234"),
        (3e6, "3M"),
        (0.25, "0.25"),
        (5e-4, "5e-4"),
        (-0.1, "-0.1"),
    ],
)
def test_labels_are_short(value, text):
    assert chart.label(value) == text


def test_running_mean_is_the_mean_of_the_neighbours():
    y = np.random.default_rng(0).normal(size=50)
    expected = [y[max(0, i - 3) : i + 4].mean() for i in range(50)]
    np.testing.assert_allclose(chart.running_mean(y, 7), expected, atol=1e-12)


def test_values_land_where_the_axes_say():
    ((u, v),) = lines(chart.draw(Chart("loss", [Series("a", [0, 5, 10], [0.0, 0.5, 1.0])])))
    height = HEIGHT - TOP - BOTTOM
    np.testing.assert_allclose(u, [LEFT, (LEFT + WIDTH - RIGHT) / 2, WIDTH - RIGHT], atol=0.06)
    np.testing.assert_allclose(v, HEIGHT - BOTTOM - np.array([0, 0.5, 1]) / 1.05 * height, atol=0.06)


def test_equal_ratios_are_equally_far_apart_on_a_log_axis():
    ((_, v),) = lines(chart.draw(Chart("loss", [Series("a", [0, 1, 2], [1.0, 1e-2, 1e-4])], log=True)))
    assert v[1] - v[0] == pytest.approx(v[2] - v[1], abs=0.11)
    assert v[1] > v[0]


def test_values_that_cannot_be_drawn_are_left_out():
    series = Series("a", [0, 1, 2, 3, 4], [1.0, math.nan, math.inf, -1.0, 2.0])
    assert lines(chart.draw(Chart("loss", [series], log=True)))[0].shape == (2, 2)
    assert lines(chart.draw(Chart("loss", [series])))[0].shape == (2, 3)


def test_series_without_values_are_named_and_one_value_is_a_dot():
    figure = chart.draw(Chart("loss", [Series("empty", [], []), Series("one", [3], [0.5])]))
    assert "empty (no values)" in figure
    assert len(list(ET.fromstring(figure).iter("circle"))) == 1
    assert "<svg" not in chart.draw(Chart("loss", [Series("empty", [], [])]))


@pytest.mark.parametrize("value", [0.0, 5.0, -3.0, 1e-12])
def test_a_constant_series_is_a_level_line_inside_the_axes(value):
    ((_, v),) = lines(chart.draw(Chart("loss", [Series("a", [0, 1], [value, value])])))
    assert v[0] == v[1]
    assert TOP <= v[0] <= HEIGHT - BOTTOM


def test_long_noisy_series_are_thinned_and_smoothed_and_smooth_ones_are_not():
    x = np.arange(5000)
    noisy = lines(chart.draw(Chart("loss", [Series("a", x, np.random.default_rng(0).random(5000))])))
    assert [len(u) for u, _ in noisy] == [385, 385]  # groups of 13
    assert np.ptp(noisy[1][1]) < np.ptp(noisy[0][1])
    assert len(lines(chart.draw(Chart("rate", [Series("a", x, np.cos(x / 3000))])))) == 1


def test_text_is_escaped():
    figure = chart.draw(Chart("<b>&", [Series("<i>", [0, 1], [0, 1])], y_label='"<'))
    ET.fromstring(figure)
    assert "<i>&lt;" not in figure
    assert "&lt;i&gt;" in figure


def test_series_are_read_from_metrics_lines(tmp_path):
    records = [
        {"step": 10, "loss": 2.0},
        {"step": 20, "loss": None},
        {"step": 20, "miou": 0.5},
        {"step": 30, "loss": 1.0},
    ]
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps(r) + "\n" for r in records) + '{"step": 40, "lo')
    assert chart.read_series(path, "loss") == Series("loss", [10, 30], [2.0, 1.0])
    assert chart.read_series(path, "miou", "student") == Series("student", [20], [0.5])
    assert re.search("student", chart.draw(Chart("t", [chart.read_series(path, "miou", "student")])))
