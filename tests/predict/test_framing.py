"""Where pixels, points and masks go, against formulas; tests/parity compares with the official code."""

import numpy as np
import pytest

from sadist_jax.predict.framing import Framing

SIDE = 16


def test_a_padded_image_keeps_its_aspect_ratio():
    framing = Framing.of((20, 40), SIDE, "pad")
    assert framing.content == (8, 16)
    frame = framing.pixels(np.full((20, 40, 3), 200, np.uint8))
    assert frame.shape == (SIDE, SIDE, 3)
    assert frame.dtype == np.uint8
    assert (frame[:8] == 200).all()
    assert (frame[8:] == 0).all()


def test_a_stretched_image_fills_the_frame():
    """A ramp along x, sampled bilinearly at (i + 0.5) * 32 / 16 - 0.5 without antialias: between two pixels."""
    framing = Framing.of((8, 32), SIDE, "stretch")
    frame = framing.pixels(np.broadcast_to(np.arange(32, dtype=np.uint8)[None, :, None], (8, 32, 3)))
    assert frame.shape == (SIDE, SIDE, 3)
    np.testing.assert_allclose(frame, np.broadcast_to((2 * np.arange(16) + 0.5)[None, :, None], frame.shape), atol=1e-5)


@pytest.mark.parametrize(
    ("fit", "scale"), [("pad", (16 / 40, 8 / 20)), ("stretch", (16 / 40, 16 / 20))], ids=["pad", "stretch"]
)
def test_points_scale_with_the_image(fit, scale):
    points = np.array([[0, 0], [39, 19], [10, 5]])
    np.testing.assert_allclose(Framing.of((20, 40), SIDE, fit).points(points), points * np.array(scale), rtol=1e-6)


@pytest.mark.parametrize("image", [(8, 32), (48, 12)])
def test_stretched_masks_come_back_at_the_size_of_the_image(image):
    """A ramp at place p = (i + 0.5) * 16 / size - 0.5 of fraction t, off the edges: the cubic kernel of a = -0.75,
    PyTorch's, gives p + (2 a + 1) t (1 - t) (2 t - 1), the sum of its four weights times their places.
    """
    low = 16
    rows, columns = np.mgrid[:low, :low].astype(np.float32)
    masks = np.asarray(Framing.of(image, SIDE, "stretch").masks(np.stack([rows, columns])))
    assert masks.shape == (2, *image)
    for axis, (mask, size) in enumerate(zip(masks, image, strict=True)):
        place = (np.arange(size) + 0.5) * low / size - 0.5
        inside = (place >= 1) & (place <= low - 2)
        t = place % 1
        ramp = place - 0.5 * t * (1 - t) * (2 * t - 1)
        expected = np.expand_dims(ramp[inside], 1 - axis)
        found = mask.compress(inside, axis)
        np.testing.assert_allclose(found, np.broadcast_to(expected, found.shape), atol=1e-4)


def test_padded_masks_leave_the_padding_behind():
    """Low-resolution logits of -9 in the padding's lower half, 9 above: all of the image is in the mask."""
    logits = np.where(np.arange(4) < 2, 9.0, -9.0).astype(np.float32)[None, :, None] * np.ones((1, 4, 4), np.float32)
    framing = Framing.of((12, 24), SIDE, "pad")
    assert framing.content == (8, 16)
    masks = np.asarray(framing.masks(logits))
    assert masks.shape == (1, 12, 24)
    assert (masks > 0).all()
