"""Jitter and crops: image and masks stay together, draws follow their stated laws."""

import numpy as np
import pytest
from PIL import Image, ImageFilter

from sadist_jax.codecs import crops
from sadist_jax.codecs.geometry import resize_image, resize_mask


@pytest.mark.parametrize("hw", [(48, 64), (64, 48), (200, 30)])
def test_jitter_is_a_crop_of_the_resized(hw):
    rng = np.random.default_rng(1)
    image = rng.integers(0, 256, (*hw, 3), dtype=np.uint8)
    masks = rng.integers(0, 2, (3, *hw), dtype=np.uint8)
    for _ in range(20):
        jitter = crops.sample_jitter(hw, 32, rng)
        (y, x), (h, w) = jitter.corner, jitter.content
        assert jitter.content == (min(32, jitter.resized[0]), min(32, jitter.resized[1]))
        view, cut = crops.jitter_image(image, jitter, 32), crops.jitter_masks(masks, jitter, 32)
        assert view.shape == (32, 32, 3)
        assert cut.shape == (3, 32, 32)
        np.testing.assert_array_equal(view[:h, :w], resize_image(image, jitter.resized)[y : y + h, x : x + w])
        np.testing.assert_array_equal(cut[:, :h, :w], resize_mask(masks, jitter.resized)[:, y : y + h, x : x + w])
        assert not view[h:].any()
        assert not view[:, w:].any()
        assert not cut[:, h:].any()
        assert not cut[:, :, w:].any()


def test_jitter_moves_image_and_mask_alike():
    """A bright block and its mask still cover each other, but for two pixels along the antialiased edge."""
    image, mask = np.zeros((60, 80, 3), np.uint8), np.zeros((1, 60, 80), bool)
    image[15:45, 20:60], mask[:, 15:45, 20:60] = 255, True
    rng = np.random.default_rng(0)
    for _ in range(20):
        jitter = crops.sample_jitter((60, 80), 64, rng, scale=(0.5, 2.0))
        bright = crops.jitter_image(image, jitter, 64)[..., 0] > 127
        inside = Image.fromarray(crops.jitter_masks(mask, jitter, 64)[0].astype(np.uint8))
        assert bright[np.asarray(inside.filter(ImageFilter.MinFilter(5))) == 1].all()
        assert not bright[np.asarray(inside.filter(ImageFilter.MaxFilter(5))) == 0].any()


def test_jitter_scale_is_uniform():
    rng = np.random.default_rng(0)
    scales = [max(crops.sample_jitter((300, 400), 1000, rng).resized) / 1000 for _ in range(4000)]
    assert 0.1 <= min(scales) < 0.11
    assert 1.99 < max(scales) <= 2.0
    np.testing.assert_allclose(np.quantile(scales, [0.25, 0.5, 0.75]), [0.575, 1.05, 1.525], atol=0.05)


def test_crops_follow_area_and_aspect():
    rng = np.random.default_rng(0)
    boxes = [crops.sample_crop((500, 500), rng) for _ in range(4000)]
    area = np.array([b.height * b.width for b in boxes]) / 250_000
    aspect = np.array([b.width / b.height for b in boxes])
    assert area.min() > 0.195
    assert aspect.min() > 0.74
    assert aspect.max() < 1.35
    # log-uniform: half of the draws are wider than high
    assert abs(np.mean(aspect > 1) - 0.5) < 0.03
    # uniform on 0.2 .. 1 but for draws near 1 that do not fit into the square
    assert abs(np.mean(area[area < 0.7] < 0.45) - 0.5) < 0.04
    for b in boxes:
        assert 0 <= b.top <= 500 - b.height
        assert 0 <= b.left <= 500 - b.width


@pytest.mark.parametrize("hw", [(1, 400), (400, 1), (1, 1)])
def test_strips_fall_back_to_a_centred_crop(hw):
    box = crops.sample_crop(hw, np.random.default_rng(0))
    assert 1 <= box.height <= hw[0]
    assert 1 <= box.width <= hw[1]
    assert crops.random_resized_crop(np.zeros((*hw, 3), np.uint8), 8, np.random.default_rng(0)).shape == (8, 8, 3)


def test_random_resized_crop_is_a_pure_function_of_the_generator():
    image = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    one = [crops.random_resized_crop(image, 16, np.random.default_rng(s)) for s in range(20)]
    two = [crops.random_resized_crop(image, 16, np.random.default_rng(s)) for s in range(20)]
    np.testing.assert_array_equal(one, two)
    assert len({v.tobytes() for v in one}) == 20


def test_half_of_the_views_are_flipped():
    ramp = np.repeat(np.linspace(0, 255, 64).astype(np.uint8)[None, :, None], 64, 0).repeat(3, 2)
    rng = np.random.default_rng(0)
    views = [crops.random_resized_crop(ramp, 8, rng).astype(int) for _ in range(300)]
    flipped = np.mean([v[0, 0, 0] > v[0, -1, 0] for v in views])
    assert abs(flipped - 0.5) < 0.1


def test_flip_is_its_own_inverse():
    image = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    assert crops.flip(image, 1)[0, 0].tolist() == image[0, 2].tolist()
    np.testing.assert_array_equal(crops.flip(crops.flip(image, 1), 1), image)
    assert crops.flip(np.array([[[0, 1]]]), -1).tolist() == [[[1, 0]]]
