"""keras-hub's SAM on the JAX backend, without TensorFlow: ours into a preset and back, outputs compared."""

import sys

import jax
import numpy as np
import pytest

from conversion import keras_hub
from sadist_jax import tree
from sadist_jax.models.sam import Sam
from sadist_jax.nn import table
from tests.parity import draw
from tests.parity.cases import batch, cases

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # keras 3.15, numpy 2
EMBEDDING, LOGITS, IOU = 1e-4, 5e-4, 1e-4  # as in test_sam.py


def fill_in(image: np.ndarray, side: int) -> np.ndarray:
    """(1, side, side, 3) uint8: the photo's top left corner, all of the frame."""
    rows, cols = (np.arange(side) % n for n in image.shape[:2])
    return image[rows[:, None], cols][None]


def ask(segmenter, case, frame) -> tuple[np.ndarray, np.ndarray]:
    """Logits (4, h, w) and IoU (4,); a padding point after points without a box, as keras-hub's documentation says."""
    points = np.zeros((0, 2)) if case.points is None else case.points
    labels = np.zeros(0) if case.points is None else case.labels
    if case.box is None and case.points is not None:
        points, labels = np.concatenate([points, np.zeros((1, 2))]), np.concatenate([labels, [-1]])
    inputs = {"images": frame / 255, "points": points[None], "labels": labels[None]}
    if case.box is not None:
        inputs["boxes"] = case.box.reshape(1, 1, 2, 2)
    if case.mask is not None:
        inputs["masks"] = case.mask[None, None, ..., None]
    out = segmenter.predict(inputs, verbose=0)
    return out["masks"][0], out["iou_pred"][0]


@pytest.mark.parametrize("size", ["mini", "vit_b"])
def test_a_preset_gives_the_same_outputs_and_comes_back(size, photo, tmp_path):
    sam = getattr(Sam, size)()
    params = table.from_reference(sam.table(), draw.state(sam.table()))
    keras_hub.write(tmp_path / "preset", sam, params)
    assert keras_hub.reads(tmp_path / "preset")
    again, loaded = keras_hub.read(tmp_path / "preset")
    assert again == sam
    assert tree.flatten(loaded).keys() == tree.flatten(params).keys()
    jax.tree.map(np.testing.assert_array_equal, loaded, params)

    segmenter = keras_hub.package().models.SAMImageSegmenter.from_preset(str(tmp_path / "preset"))
    frame = fill_in(photo, sam.image_size)
    theirs = np.asarray(segmenter.backbone.image_encoder(frame / 255))
    ours = np.asarray(jax.jit(sam.encode)(params, frame))
    print(f"{size}: embedding {np.abs(ours - theirs).max():.1e} of std {theirs.std():.1f}")
    assert np.abs(ours - theirs).max() < EMBEDDING
    prompts = cases(sam.image_size, 4 * sam.image_encoder.grid)
    del prompts["not a point"]  # keras-hub takes a label of -1 for padding too, at the place that is given
    logits, iou = jax.jit(sam.decode)(params, ours, batch(list(prompts.values()), 5))
    for i, (name, case) in enumerate(prompts.items()):
        their_logits, their_iou = ask(segmenter, case, frame)
        print(f"{name}: {np.abs(logits[0, i] - their_logits).max():.1e}")
        assert np.abs(logits[0, i] - their_logits).max() < LOGITS, name
        assert np.abs(iou[0, i] - their_iou).max() < IOU, name
    assert "tensorflow" not in sys.modules
