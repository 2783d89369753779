"""Zero-shot edges against the same steps written out with the Predictor, NumPy and SciPy, and on drawn discs."""

import jax
import numpy as np
import pytest
from scipy import ndimage, special

import sadist_jax
from sadist_jax.errors import BadInput
from sadist_jax.predict.edges import EdgeDetector
from sadist_jax.predict.grid import point_grid
from sadist_jax.predict.predictor import Predictor
from tests.predict.test_everything import ASTRONAUT, iou
from tests.predict.test_predictor import SAM, STUDENT, drawn, photo

PHOTO = photo(40, 56)
EIGHT = np.ones((3, 3), bool)


@pytest.fixture(scope="module")
def sam_mini():
    return sadist_jax.load("sam_mini")


def kept_masks(model, params, image, side, threshold):
    """Logits on the image's pixels of the masks that survive."""
    predictor, found = Predictor(model, params), []
    predictor.set_image(image)
    for point in point_grid(side) * (image.shape[1], image.shape[0]):
        answer = predictor.predict(points=point[None], multimask=True)
        logits = np.asarray(predictor._image[0].masks(answer.low_res_logits))
        for score, mask, full in zip(answer.ious, answer.masks, logits, strict=True):
            if mask.any():
                rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
                found.append((float(score), (columns[0], rows[0], columns[-1], rows[-1]), mask, full))
    kept = []
    for one in sorted(found, key=lambda item: -item[0]):
        if not any(iou(one[1], other[1]) > threshold for other in kept):
            kept.append(one)
    return [(mask, full) for _, _, mask, full in kept]


def written_out(masks, shape):
    """(strength in 0..1 before the thinning, which pixels stay)."""
    strength, right, down = np.zeros((3, *shape))
    for mask, logits in masks:
        probability = special.expit(logits.astype(np.float64))
        across = [ndimage.sobel(probability, axis, mode="nearest") for axis in (1, 0)]
        ring = ndimage.binary_dilation(mask, EIGHT) & ~mask
        stronger = ring & (np.hypot(*across) > strength)
        for whole, own in ((strength, np.hypot(*across)), (right, across[0]), (down, across[1])):
            whole[stronger] = own[stronger]
    strength = (strength - strength.min()) / (strength.max() - strength.min())
    stays = np.zeros(shape, bool)
    for y, x in np.argwhere(strength > 0):
        step = np.array([down[y, x], right[y, x]]) / max(abs(down[y, x]), abs(right[y, x]))
        step = -step if (step[1], step[0]) < (0, 0) else step
        # on the ring one of the two coordinates is whole: bilinear interpolation is along the ring
        ends = np.array([y, x]) + np.array([step, -step])
        ahead, behind = ndimage.map_coordinates(np.pad(strength, 2), ends.T + 2, order=1)
        stays[y, x] = strength[y, x] >= ahead and strength[y, x] > behind
    return strength, stays


@pytest.mark.parametrize("which", ["sam", "efficient_sam", "sam_mini"])
def test_the_steps_are_the_papers(which, sam_mini):
    """With drawn weights, whose masks are noise all over the image, and with masks of a photo, some of them doubles."""
    if which == "sam_mini":
        model, params = sam_mini
    else:
        model = SAM if which == "sam" else STUDENT
        params = drawn(model)
    image = ASTRONAUT if which == "sam_mini" else PHOTO
    found = EdgeDetector(model, params, points_per_side=3, points_per_batch=4).detect(image)
    strength, stays = written_out(kept_masks(model, params, image, 3, 0.7), image.shape[:2])
    assert found.dtype == np.float32
    assert found.shape == image.shape[:2]
    assert stays.sum() > 20
    assert ((found > 0) != stays).mean() < 0.01  # rounding decides between neighbours that are all but equal
    both = (found > 0) & stays
    np.testing.assert_allclose(found[both], strength[both], atol=2e-3)


def test_the_edge_of_a_disc_is_found(sam_mini):
    model, params = sam_mini
    y, x = np.mgrid[:150, :200]
    outside = np.hypot(x - 120, y - 70) - 40
    picture = np.where((outside < 0)[..., None], np.uint8([220, 190, 60]), np.uint8([30, 60, 110]))
    edges = EdgeDetector(model, params, points_per_side=8).detect(picture)
    assert edges.dtype == np.float32
    assert edges.min() == 0
    assert 0.5 < edges.max() <= 1
    sure = edges > 0.5
    assert np.abs(outside[sure]).max() < 8 * 200 / 256  # a patch of 8 pixels of the frame, which is 256 pixels wide
    # nine tenths of the circle have an edge within 3 pixels
    near = ndimage.binary_dilation(sure, EIGHT, 3)[np.abs(outside) < 0.5]
    assert near.mean() > 0.9


def test_neither_chunks_nor_the_kind_of_image_matter(sam_mini):
    model, params = sam_mini
    grey = photo(90, 70)[..., 0]
    one = EdgeDetector(model, params, points_per_side=4).detect(grey)
    many = EdgeDetector(model, params, points_per_side=4, points_per_batch=3).detect(np.stack([grey] * 3, -1))
    assert one.shape == (90, 70)
    assert (one > 0).sum() > 20
    assert ((one > 0) != (many > 0)).mean() < 1e-3
    assert np.abs(one - many).mean() < 1e-3


def test_a_model_without_masks_finds_no_edges():
    params = drawn(SAM)
    networks = params["mask_decoder"]["output_hypernetworks_mlps"]
    nothing = jax.tree.map(np.zeros_like, networks)
    silent = {**params, "mask_decoder": {**params["mask_decoder"], "output_hypernetworks_mlps": nothing}}
    found = EdgeDetector(SAM, silent, points_per_side=2).detect(PHOTO)  # logits of 0, and a mask is above it
    assert not found.any()


def test_what_cannot_be_asked_is_said():
    with pytest.raises(BadInput, match="points_per_side and points_per_batch must be 1 or more"):
        EdgeDetector(SAM, drawn(SAM), points_per_side=0)
