"""Everything mode against the official SamAutomaticMaskGenerator; more photos: benchmarks/everything_agreement.py."""

import sys
from unittest import mock

import numpy as np
import pytest

import sadist_jax
from benchmarks.everything_agreement import SETTINGS, connected_parts, differing, official_generator
from sadist_jax.data.package_photos import PackagePhotos
from sadist_jax.predict.everything import MaskGenerator
from sadist_jax.predict.grid import Everything


@pytest.fixture(scope="module")
def photos():
    found = PackagePhotos("held_out").open()
    return [np.ascontiguousarray(found[i].image[:300, :400]) for i in range(2)]


# with an area that whole masks are below, too
CASES = SETTINGS | {"minimum area 3000": SETTINGS["minimum area 100"] | {"min_mask_region_area": 3000}}


@pytest.mark.parametrize("name", CASES)
def test_the_same_masks_in_the_same_order(name, photos):
    sam, params = sadist_jax.load("sam_mini")
    options = CASES[name] | {"points_per_side": 10}
    theirs, ours = official_generator(sam, params, options), MaskGenerator(sam, params, Everything(**options))
    for photo in photos:
        with mock.patch.dict(sys.modules, cv2=connected_parts()):
            expected = theirs.generate(photo)
        records = ours.generate(photo)
        assert len(expected) > 5
        assert differing(records, expected) == []
        for a, b in zip(records, expected, strict=True):
            # a logit on the threshold, rounded to the other side, is a pixel
            assert a["bbox"] == pytest.approx(b["bbox"], abs=1)
            assert a["area"] == pytest.approx(b["area"], rel=1e-3)
            assert a["crop_box"] == b["crop_box"]
            assert a["point_coords"][0] == pytest.approx(b["point_coords"][0])
            assert a["stability_score"] == pytest.approx(b["stability_score"], abs=1e-3)
            assert a["predicted_iou"] == pytest.approx(b["predicted_iou"], abs=1e-4)
