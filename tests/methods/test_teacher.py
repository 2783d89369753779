import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sadist_jax.methods.teacher import Pixels, SamFeatures
from sadist_jax.models.vit_det import VitDet
from sadist_jax.ops.pixels import MEAN, STD, normalize

IMAGE = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 3), np.uint8)


def patches() -> np.ndarray:
    """The 2 x 2 patches of 2 px, normalised, each flattened in the order (row, column, colour)."""
    x = (IMAGE.astype(np.float64) - MEAN) / STD
    tiles = [x[:, r : r + 2, c : c + 2].reshape(2, 12) for r in (0, 2) for c in (0, 2)]
    return np.stack(tiles, 1)


def test_pixels_as_they_are():
    found = Pixels(2, "none").targets({}, {"image": jnp.asarray(IMAGE)}, 2)
    np.testing.assert_allclose(found, patches(), atol=1e-5)


def test_pixels_per_token_are_maes():
    """norm_pix_loss: (x - mean) / sqrt(var + 1e-6) with torch's variance, which divides by n - 1."""
    x = patches()
    expected = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, ddof=1, keepdims=True) + 1e-6)
    np.testing.assert_allclose(Pixels(2).targets({}, {"image": jnp.asarray(IMAGE)}, 2), expected, atol=1e-5)


def test_pixels_that_make_another_grid_are_refused():
    with pytest.raises(ValueError, match="patches of 2 px make 2 a side, the student has 4"):
        Pixels(2).targets({}, {"image": jnp.asarray(IMAGE)}, 4)


class Pool(VitDet):
    """Stands in for the encoder: means of 2 x 2 pixels, doubled by the neck; `factor` can carry a gradient."""

    def apply(self, params, x):
        b, h, w, c = x.shape
        pooled = params["factor"] * x.reshape(b, h // 2, 2, w // 2, 2, c).mean((2, 4))
        return 2 * pooled, {"pre_neck": pooled}


TEACHER = Pool(dim=3, out_dim=3, image_size=8, patch=2)
FROZEN = {"image_encoder": {"factor": jnp.float32(1)}}


@pytest.mark.parametrize(("at", "factor"), [("neck", 2), ("pre_neck", 1)])
def test_features_of_the_crop_itself(at, factor):
    x = np.asarray(normalize(jnp.asarray(IMAGE)))
    expected = factor * x.reshape(2, 2, 2, 2, 2, 3).mean((2, 4)).reshape(2, 4, 3)
    np.testing.assert_allclose(
        SamFeatures(TEACHER, at).targets(FROZEN, {"image": jnp.asarray(IMAGE)}, 2), expected, atol=1e-5
    )


def test_a_teacher_at_its_own_size_is_brought_back_to_the_students_tokens():
    """Of a single colour, so that resizing changes nothing: 8 px make 4 x 4 features, averaged down to 2 x 2."""
    flat = jnp.full((1, 4, 4, 3), 200, jnp.uint8)
    found = SamFeatures(TEACHER, "pre_neck", side=8).targets(FROZEN, {"image": flat}, 2)
    np.testing.assert_allclose(found, np.tile((200 - np.array(MEAN)) / STD, (1, 4, 1)), atol=1e-5)


def test_targets_send_no_gradient_to_the_teacher():
    def total(factor):
        return (
            SamFeatures(TEACHER).targets({"image_encoder": {"factor": factor}}, {"image": jnp.asarray(IMAGE)}, 2).sum()
        )

    assert jax.grad(total)(1.0) == 0


def test_the_number_of_channels():
    encoder = VitDet(dim=12, out_dim=7)
    assert (SamFeatures(encoder).dim, SamFeatures(encoder, "pre_neck").dim, Pixels(4).dim) == (7, 12, 48)
