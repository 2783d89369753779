"""Everything mode against the same steps written out with the Predictor and NumPy; the official one is in parity."""

import dataclasses

import numpy as np
import pytest
import skimage.data
from pycocotools import mask as coco

import sadist_jax
from sadist_jax.errors import BadInput
from sadist_jax.predict import everything
from sadist_jax.predict.everything import MaskGenerator
from sadist_jax.predict.grid import Everything, crops_of, point_grid
from sadist_jax.predict.predictor import Predictor
from tests.predict.test_predictor import SAM, STUDENT, drawn, photo

LOOSE = Everything(points_per_side=3, points_per_batch=4, pred_iou_thresh=-9.0, stability_score_thresh=0.0)
PHOTO = photo(40, 56)
ASTRONAUT = skimage.data.astronaut()[:120, 150:310]


@pytest.fixture(scope="module")
def sam_mini():
    return sadist_jax.load("sam_mini")


@pytest.fixture(scope="module", params=["sam", "efficient_sam"])
def model(request):
    """With drawn weights, whose masks are noise over the whole image."""
    found = SAM if request.param == "sam" else STUDENT
    return found, drawn(found)


def iou(a, b):
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(width, 0) * max(height, 0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both
    return both / union if union else 0.0


def written_out(model, params, image, options):
    """[(score, point, mask)] of one crop, the surest first."""
    predictor, low, high = Predictor(model, params), [], []
    predictor.set_image(image)
    points = point_grid(options.points_per_side) * (image.shape[1], image.shape[0])
    for point in points:
        found = predictor.predict(points=point[None], multimask=True)
        framing = predictor._image[0]
        logits = np.asarray(framing.masks(found.low_res_logits))
        low += [(float(q), point, mask, full) for q, mask, full in zip(found.ious, found.masks, logits, strict=True)]
    offset = options.stability_score_offset
    for score, point, mask, full in low:
        stability = (full > offset).sum() / max(1, (full > -offset).sum())
        sure = options.pred_iou_thresh <= 0 or score > options.pred_iou_thresh
        if sure and stability >= options.stability_score_thresh and mask.any():
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            high.append((score, point, mask, (columns[0], rows[0], columns[-1], rows[-1])))
    kept = []
    for one in sorted(high, key=lambda item: -item[0]):
        if not any(iou(one[3], other[3]) > options.box_nms_thresh for other in kept):
            kept.append(one)
    return kept


def assert_as_written(model, image, options, tolerance):
    records, expected = MaskGenerator(*model, options).generate(image), written_out(*model, image, options)
    assert len(expected) > 4
    assert len(records) == len(expected)
    for record, (score, point, mask, box) in zip(records, expected, strict=True):
        assert record["predicted_iou"] == pytest.approx(score, abs=1e-4)
        np.testing.assert_allclose(record["point_coords"], [point])
        assert (record["segmentation"] != mask).mean() <= tolerance
        assert record["area"] == record["segmentation"].sum()
        np.testing.assert_allclose(record["bbox"], [box[0], box[1], box[2] - box[0], box[3] - box[1]], atol=1)
        assert record["crop_box"] == [0, 0, image.shape[1], image.shape[0]]


def test_it_does_what_is_written(sam_mini):
    options = dataclasses.replace(LOOSE, pred_iou_thresh=0.2, stability_score_thresh=0.3, points_per_side=5)
    assert_as_written(sam_mini, ASTRONAUT, options, tolerance=0.001)


def test_noise_too_and_an_efficient_sam(model):
    assert_as_written(model, PHOTO, dataclasses.replace(LOOSE, box_nms_thresh=1.0), tolerance=0.01)


@pytest.mark.parametrize("field", ["pred_iou_thresh", "stability_score_thresh", "box_nms_thresh"])
def test_each_threshold_rejects(field, sam_mini):
    loose = dataclasses.replace(LOOSE, box_nms_thresh=1.0, points_per_side=4)
    whole = MaskGenerator(*sam_mini, loose).generate(ASTRONAUT)
    values = {
        "pred_iou_thresh": float(np.median([r["predicted_iou"] for r in whole])),
        "stability_score_thresh": float(np.median([r["stability_score"] for r in whole])) + 1e-6,
        "box_nms_thresh": 0.5,
    }
    records = MaskGenerator(*sam_mini, dataclasses.replace(loose, **{field: values[field]})).generate(ASTRONAUT)
    assert 0 < len(records) < len(whole)
    if field == "pred_iou_thresh":
        assert all(r["predicted_iou"] > values[field] for r in records)
    if field == "stability_score_thresh":
        assert all(r["stability_score"] >= values[field] for r in records)


def test_the_size_of_a_chunk_changes_nothing(model):
    first, *others = (
        MaskGenerator(*model, dataclasses.replace(LOOSE, points_per_batch=n), "coco_rle").generate(PHOTO)
        for n in (9, 2, 4)
    )
    for other in others:
        assert [(r["point_coords"], r["segmentation"]) for r in other] == [
            (r["point_coords"], r["segmentation"]) for r in first
        ]


def test_only_the_next_chunk_is_in_flight(monkeypatch):
    alive, most = 0, 0

    def counted(*args):
        nonlocal alive, most
        alive += 1
        most = max(most, alive)
        return real(*args)

    def fetched(*args):
        nonlocal alive
        alive -= 1
        return fetch(*args)

    real, fetch = everything.candidates, everything._fetched
    monkeypatch.setattr(everything, "candidates", counted)
    monkeypatch.setattr(everything, "_fetched", fetched)
    MaskGenerator(SAM, drawn(SAM), dataclasses.replace(LOOSE, points_per_batch=1)).generate(PHOTO)
    assert (alive, most) == (0, 2)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools
def test_forms_of_a_mask_say_the_same():
    params = drawn(SAM)
    forms = {
        form: MaskGenerator(SAM, params, LOOSE, form).generate(PHOTO)
        for form in ("binary_mask", "uncompressed_rle", "coco_rle")
    }
    for plain, counts, text in zip(*forms.values(), strict=True):
        assert coco.decode(text["segmentation"]).tolist() == plain["segmentation"].astype(int).tolist()
        compressed = coco.frPyObjects(counts["segmentation"], *counts["segmentation"]["size"])
        assert coco.decode(compressed).tolist() == plain["segmentation"].astype(int).tolist()


def test_an_unknown_form_is_refused(model):
    with pytest.raises(BadInput, match="output_mode is 'png'; it must be one of binary_mask"):
        MaskGenerator(*model, LOOSE, "png")


def test_masks_of_crops_lie_where_their_crops_lie(sam_mini):
    options = dataclasses.replace(
        LOOSE, crop_n_layers=1, points_per_side=4, crop_nms_thresh=1.0, pred_iou_thresh=0.1, stability_score_thresh=0.2
    )
    image = skimage.data.astronaut()[:240, 100:400]
    records = MaskGenerator(*sam_mini, options).generate(image)
    crops = {crop.box for crop in crops_of((240, 300), 1, options.crop_overlap_ratio)}
    seen = {(x, y, x + w, y + h) for x, y, w, h in (r["crop_box"] for r in records)}
    assert seen <= crops
    assert len(seen) > 2
    for record in records:
        x, y, w, h = record["crop_box"]
        outside = record["segmentation"].copy()
        outside[y : y + h, x : x + w] = False
        assert not outside.any()
        px, py = record["point_coords"][0]
        assert x <= px <= x + w
        assert y <= py <= y + h
    small = [r for r in records if r["crop_box"][2] < 300]
    for record in small:  # nothing that its crop cuts off
        x, y, w, h = record["crop_box"]
        left, top, width, height = record["bbox"]
        assert x == 0 or left > x + 20
        assert y == 0 or top > y + 20
        assert x + w == 300 or left + width < x + w - 20
        assert y + h == 240 or top + height < y + h - 20


def test_small_regions_are_cleaned_and_boxes_follow():
    params, options = drawn(SAM), dataclasses.replace(LOOSE, box_nms_thresh=1.0)
    before = MaskGenerator(SAM, params, options).generate(PHOTO)
    after = MaskGenerator(SAM, params, dataclasses.replace(options, min_mask_region_area=40)).generate(PHOTO)
    assert {r["area"] for r in before} != {r["area"] for r in after}
    for record in after:
        rows, columns = (np.flatnonzero(record["segmentation"].any(axis)) for axis in (1, 0))
        left, top, width, height = record["bbox"]
        assert (left, top, left + width, top + height) == (columns[0], rows[0], columns[-1], rows[-1])


@pytest.mark.parametrize("shape", [(1, 1), (1, 30), (2, 2)])
def test_tiny_images_have_a_result(model, shape):
    options = dataclasses.replace(LOOSE, crop_n_layers=1, points_per_side=2, min_mask_region_area=3)
    records = MaskGenerator(*model, dataclasses.replace(options, crop_nms_thresh=1.0)).generate(photo(*shape))
    assert all(record["segmentation"].shape == shape for record in records)
    assert records or shape == (1, 1)


def test_a_model_that_is_sure_of_nothing_finds_nothing():
    assert MaskGenerator(SAM, drawn(SAM), dataclasses.replace(LOOSE, pred_iou_thresh=1e9)).generate(PHOTO) == []


def test_what_is_kept_of_a_chunk_does_not_keep_the_chunk(monkeypatch):
    kept = []
    fetch = everything._fetched
    monkeypatch.setattr(everything, "_fetched", lambda *args: kept.extend(fetch(*args)) or [])
    MaskGenerator(SAM, drawn(SAM), LOOSE).generate(PHOTO)
    assert kept
    assert all(mask.bits.base is None for mask in kept)


def test_large_photos_are_decoded_in_smaller_chunks(monkeypatch):
    sizes = []
    real = everything.candidates
    monkeypatch.setattr(everything, "candidates", lambda *args: sizes.append(len(args[3])) or real(*args))
    monkeypatch.setattr(everything, "BUDGET", 2 * 3 * 128 * 128 // 8)  # two clicks of a photo filled up to 128 x 128
    MaskGenerator(SAM, drawn(SAM), LOOSE).generate(PHOTO)
    assert sizes == [2] * 5


def test_photos_of_like_sizes_share_a_program():
    generator = MaskGenerator(SAM, drawn(SAM), LOOSE)
    generator.generate(photo(40, 56))
    before = everything.candidates._cache_size()
    generator.generate(photo(44, 60))
    assert everything.candidates._cache_size() == before


def test_a_threshold_of_0_is_none():
    """As in segment-anything: predicted IoUs may be negative."""
    params = drawn(SAM)
    none, all_ = (
        MaskGenerator(SAM, params, dataclasses.replace(LOOSE, pred_iou_thresh=t, box_nms_thresh=1.0)).generate(PHOTO)
        for t in (0.0, -1e9)
    )
    assert len(none) == len(all_)
    assert min(record["predicted_iou"] for record in none) < 0
