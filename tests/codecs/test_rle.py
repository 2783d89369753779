"""Run-length codes: equal to pycocotools, and strict about damage."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sadist_jax.codecs import rle
from sadist_jax.errors import BadInput

coco = pytest.importorskip("pycocotools.mask")
# pycocotools itself is behind NumPy 2 here
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

masks = hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=40))


def smooth_mask(seed, height, width):
    """A mask with long runs, so that differences of runs are negative and large."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    wave = np.sin(x * rng.uniform(0.01, 0.2)) + np.sin(y * rng.uniform(0.01, 0.2) + x * 0.05)
    return wave > rng.uniform(-1, 1)


@settings(max_examples=150, deadline=None)
@given(masks)
def test_codes_equal_pycocotools(mask):
    reference = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    ours = rle.encode(mask)
    packed = rle.compress(ours)
    assert packed["size"] == list(reference["size"])
    assert packed["counts"] == reference["counts"].decode()
    assert rle.area(ours) == coco.area(reference)
    assert rle.bbox(packed) == coco.toBbox(reference).tolist()
    assert rle.decompress(packed) == ours
    np.testing.assert_array_equal(rle.decode(packed), mask)
    np.testing.assert_array_equal(rle.decode(ours), mask)


@pytest.mark.parametrize(("height", "width"), [(480, 640), (37, 1000), (1, 50), (50, 1)])
def test_long_runs_equal_pycocotools(height, width):
    for seed in range(5):
        mask = smooth_mask(seed, height, width)
        reference = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
        assert rle.compress(rle.encode(mask))["counts"] == reference["counts"].decode()
        np.testing.assert_array_equal(rle.decode(reference), coco.decode(reference))  # bytes are read as well


def test_first_run_is_of_zeros_and_columns_come_first():
    assert rle.encode(np.array([[1, 0], [1, 1]])) == {"size": [2, 2], "counts": [0, 2, 1, 1]}
    assert rle.encode(np.zeros((2, 3)))["counts"] == [6]
    assert rle.decode({"size": [2, 2], "counts": [2, 1, 1]}).tolist() == [[0, 1], [0, 0]]


def test_empty_runs_in_the_middle_do_not_move_the_box():
    code = {"size": [4, 4], "counts": [5, 0, 1, 2, 8, 0]}
    mask = rle.decode(code)
    assert mask.sum() == 2 == rle.area(code)
    assert rle.bbox(code) == [1, 2, 1, 2]


def test_codes_go_through_json():
    code = rle.encode(smooth_mask(0, 20, 30))
    assert json.loads(json.dumps(code)) == code
    assert json.loads(json.dumps(rle.compress(code))) == rle.compress(code)


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ({"size": [4, 4], "counts": [3, 4]}, "add up to 7"),
        ({"size": [4, 4], "counts": [20, -4]}, "damaged"),
        ({"size": [4, 4], "counts": [16.0]}, "whole numbers"),
        ({"size": [4, 4], "counts": [[16]]}, "whole numbers"),
        ({"size": [4, 4], "counts": None}, "whole numbers"),
        ({"size": [4, 4], "counts": [10**30]}, "whole numbers"),
        ({"size": [4, 4], "counts": "héllo"}, "characters"),
        ({"size": [4, 4], "counts": "!!"}, "characters"),
        ({"size": [4, 4], "counts": "Q"}, "cut off"),
        ({"size": [4, 4], "counts": "QQQQQQQQQQ0"}, "cut off"),
        ({"size": [4, 4], "counts": ""}, "add up to 0"),
        ({"size": [4, 4], "counts": []}, "add up to 0"),
        ({"size": [4], "counts": [4]}, "height, width"),
        ({"size": [4.0, 4], "counts": [16]}, "height, width"),
        ({"size": [0, 4], "counts": []}, "height, width"),
        ({"size": [10**9, 10**9], "counts": [10**18]}, "limit"),
        ({"counts": [16]}, '"size" and "counts"'),
        ([1, 2], '"size" and "counts"'),
    ],
)
def test_damage_is_one_sentence_that_names_the_source(code, says):
    with pytest.raises(BadInput, match=says) as error:
        rle.decode(code, source="annotation 7")
    assert str(error.value).startswith("annotation 7")
    assert "\n" not in str(error.value)


def test_size_of_the_image_is_checked():
    code = rle.encode(np.ones((3, 5)))
    assert rle.decode(code, size=(3, 5)).all()
    with pytest.raises(BadInput, match="3 x 5 image, but the image is 5 x 3"):
        rle.decode(code, size=(5, 3))


@pytest.mark.parametrize("shape", [(3,), (0, 3), (2, 2, 2)])
def test_only_planes_are_encoded(shape):
    with pytest.raises(BadInput, match="must be"):
        rle.encode(np.zeros(shape))


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=30), st.integers(1, 9), st.integers(1, 9))
def test_any_string_is_a_mask_or_bad_input(text, height, width):
    try:
        mask = rle.decode({"size": [height, width], "counts": text})
    except BadInput:
        return
    assert mask.shape == (height, width)
