import numpy as np
import pytest

from benchmarks.felzenszwalb import Felzenszwalb, in_box, under_clicks
from sadist_jax.codecs.prompts import Prompt
from tests.data.made import rectangle

REGIONS = np.repeat([[0, 0, 0, 1, 1, 1, 1, 2, 2, 2]], 6, 0)  # three bands of 3, 4 and 3 columns


def columns(*which):
    return np.isin(np.arange(10), which)[None].repeat(6, 0)


@pytest.mark.parametrize(
    ("inside", "expected"),
    [(0.0, (2, 3, 4, 5, 6)), (0.3, (2, 3, 4, 5, 6)), (0.34, (3, 4, 5, 6)), (0.99, (3, 4, 5, 6))],
)
def test_regions_that_lie_in_a_box(inside, expected):
    """Columns 2 to 6 hold a third of band 0 and all of band 1."""
    assert np.array_equal(in_box(REGIONS, np.array([2, 0, 6, 5]), inside), columns(*expected))


def test_a_box_without_regions_is_filled():
    assert np.array_equal(in_box(REGIONS, np.array([1, 2, 1, 3]), 0.9), rectangle((6, 10), 1, 2, 2, 4))


@pytest.mark.parametrize("contested", ["removed", "split"])
def test_regions_under_clicks(contested):
    points, labels = np.array([[1, 2], [4, 0], [8, 5]]), np.array([1, 0, 1])
    assert np.array_equal(under_clicks(REGIONS, points, labels, contested), columns(0, 1, 2, 7, 8, 9))
    assert np.array_equal(under_clicks(REGIONS, points[:1], labels[:1], contested), columns(0, 1, 2))


def test_contested_regions():
    points, labels = np.array([[3, 2], [6, 2], [0, 0]]), np.array([1, 0, 1])
    assert np.array_equal(under_clicks(REGIONS, points, labels, "removed"), columns(0, 1, 2))
    assert np.array_equal(under_clicks(REGIONS, points, labels, "split"), columns(0, 1, 2, 3, 4))


def test_flat_objects_are_found_by_any_prompt():
    pytest.importorskip("skimage")
    mask = rectangle((40, 60), 10, 10, 30, 35)
    image = np.where(mask[..., None], np.uint8([200, 40, 40]), np.uint8([30, 30, 90]))
    reply = Felzenszwalb(100, 0, 20)(image)
    prompts = [Prompt(np.array([[12, 12.0]]), np.array([1])), Prompt(box=np.array([10, 10, 29, 34]))]
    for answer in reply(prompts):
        assert np.array_equal(answer.masks, mask[None])
