"""The crops of FrameCrops and CachedCrops: the same, and in step with the features."""

import jax
import numpy as np
import pytest

from sadist_jax.codecs.crops import Box, cells_of
from sadist_jax.data.sami_views import CachedCrops, FixedCrops, FrameCrops, cells_of_box
from sadist_jax.data.sample import Features, unlabelled
from sadist_jax.errors import BadInput

RNG = np.random.default_rng(0)
FRAMES = FrameCrops(size=32, grid=4, side=64, patch=8)
CACHED = CachedCrops(size=32, grid=4, side=64, patch=8, channels=3)


WHOLE, MIDDLE = FRAMES.view(), FixedCrops(32).view()


def sample(view=WHOLE):
    values = RNG.standard_normal((8, 8, 3)).astype(np.float32)
    return unlabelled(RNG.integers(0, 256, (50, 90, 3), np.uint8), "a.png")._replace(features=Features(values, view))


@pytest.mark.parametrize("grid", [3, 8, 13])
def test_cells_of_a_whole_row_are_those_of_jax(grid):
    x = RNG.standard_normal((8, 5)).astype(np.float32)
    np.testing.assert_allclose(cells_of(0, 8, 8, 8, grid) @ x, jax.image.resize(x, (grid, 5), "bilinear"), atol=1e-5)


def test_padding_does_not_count():
    weights = cells_of(0, 4.5, 4.5, 8, 6)
    assert (weights[:, 5:] == 0).all()
    np.testing.assert_allclose(weights.sum(1), 1, rtol=1e-6)


def test_a_place_in_the_crop_is_the_same_place_in_the_features():
    """Features that are their own place in the picture: the crop's tokens get the places of their centres."""
    of, hw = FrameCrops(size=32, grid=4, side=1024, patch=16), (600, 1000)
    box = Box(100, 300, 240, 400)
    rows, columns = cells_of_box(box, hw, of)
    # a cell is 16 px wide: within a sixteenth of it
    pixels_per_cell = 16 * 1000 / 1024
    places = (np.arange(64) + 0.5) * pixels_per_cell
    np.testing.assert_allclose(rows @ places, 100 + (np.arange(4) + 0.5) * 60, atol=1)
    np.testing.assert_allclose(columns @ places, 300 + (np.arange(4) + 0.5) * 100, atol=1)


@pytest.mark.parametrize("seed", range(6))
def test_both_draw_the_same_crops(seed):
    one = sample()
    online, cached = (view(one, np.random.default_rng(seed)) for view in (FRAMES, CACHED))
    np.testing.assert_array_equal(online["image"], cached["image"])
    expected = np.einsum("gh,hwc,kw->gkc", online["rows"], one.features.values, online["columns"])
    np.testing.assert_allclose(cached["target"], expected, atol=1e-5)


def test_a_flip_turns_both():
    one = sample()
    ramp = np.broadcast_to(np.arange(8.0)[None, :, None], (8, 8, 3)).astype(np.float32)
    one = one._replace(
        image=np.broadcast_to(np.arange(90, dtype=np.uint8)[None, :, None], (50, 90, 3)), features=Features(ramp, WHOLE)
    )
    seen = set()
    for seed in range(8):
        row = CACHED(one, np.random.default_rng(seed))
        rising = bool(row["image"][0, -1, 0] > row["image"][0, 0, 0])
        assert rising == (row["target"][0, -1, 0] > row["target"][0, 0, 0])
        seen.add(rising)
    assert seen == {True, False}


@pytest.mark.parametrize("view", [FRAMES, CACHED, FixedCrops(32, 8, 3), FixedCrops(32, 8)], ids=repr)
def test_fillers_have_the_shapes_of_rows(view):
    seen = MIDDLE if isinstance(view, FixedCrops) else WHOLE
    row, filler = view(sample(seen), np.random.default_rng(0)), view.filler()
    assert {n: (np.shape(v), np.asarray(v).dtype) for n, v in row.items()} == {
        n: (np.shape(v), np.asarray(v).dtype) for n, v in filler.items()
    }


def test_a_fixed_crop_is_the_middle():
    image = np.zeros((40, 100, 3), np.uint8)
    image[:, 30:70] = 255
    row = FixedCrops(20)(unlabelled(image, "a"), np.random.default_rng(0))
    assert (row["image"][:, 1:-1] > 200).all()


@pytest.mark.parametrize(
    "features", [None, Features(np.zeros((4, 4, 3)), WHOLE), Features(np.zeros((8, 8, 3)), MIDDLE)]
)
def test_other_features_are_refused(features):
    with pytest.raises(BadInput, match=r"needs cached features \(8, 8, 3\) of the whole image"):
        CACHED(sample()._replace(features=features), np.random.default_rng(0))
