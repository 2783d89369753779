import numpy as np
import pytest
from scipy import ndimage

from sadist_jax.predict import overlay as pictures

GREY = np.full((40, 60, 3), 100, np.uint8)


def square(height=40, width=60):
    mask = np.zeros((height, width), bool)
    mask[10:30, 20:45] = True
    return mask


def test_the_tint_is_the_weighted_mean_and_stays_inside_the_mask():
    mask = square()
    picture = pictures.overlay(GREY, mask, (200, 50, 0), alpha=0.25, line=0)
    assert np.array_equal(picture[~mask], GREY[~mask])
    assert (picture[mask] == [125, 88, 75]).all()  # 0.75 * 100 + 0.25 * colour, 87.5 to even
    assert (GREY == 100).all()


@pytest.mark.parametrize("width", [1, 3])
def test_the_outline_is_the_mask_without_its_erosion(width):
    mask = np.random.default_rng(0).random((40, 60)) < 0.7
    mask[5:35, 10:50] = True
    eroded = ndimage.binary_erosion(mask, np.ones((3, 3)), iterations=width, border_value=1)
    assert np.array_equal(pictures.outline(mask, width), mask & ~eroded)


def test_an_empty_mask_changes_nothing():
    assert np.array_equal(pictures.overlay(GREY, np.zeros((40, 60), bool)), GREY)


def test_a_mask_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"\(60, 40\)"):
        pictures.overlay(GREY, np.zeros((60, 40), bool))


def test_clicks_are_centred_and_differ_in_more_than_colour():
    drawn = pictures.draw_points(GREY, np.array([[15, 20], [45, 20], [30, 35]]), np.array([1, 0, -1]), radius=8)
    changed = (drawn != GREY).any(-1)
    labels, count = ndimage.label(changed)
    assert count == 2  # label -1 is not drawn
    for (y, x), wanted in zip(ndimage.center_of_mass(changed, labels, [1, 2]), [(20, 15), (20, 45)], strict=True):
        assert abs(y - wanted[0]) <= 0.5
        assert abs(x - wanted[1]) <= 0.5
    positive, negative = drawn[20, 12:19], drawn[17:24, 45]
    assert positive.min() > 200  # the white bar of the plus
    assert (negative[0] == pictures.NEGATIVE).all()  # a minus has no upright
    assert (drawn[24, 19] == pictures.POSITIVE).all()


def test_clicks_outside_the_image_are_cut_off():
    drawn = pictures.draw_points(GREY, np.array([[-3.0, 10.0], [500.0, 500.0]]), np.array([1, 1]))
    assert drawn.shape == GREY.shape
    assert (drawn[:, 20:] == GREY[:, 20:]).all()


def test_a_box_is_drawn_on_its_edges_only():
    drawn = pictures.draw_boxes(GREY, np.array([10, 5, 50, 35]), width=2)
    assert (drawn[12:28, 20:40] == 100).all()
    assert (drawn[5, 10:51] == 255).all()
    assert (drawn[6, 11:50] == pictures.POSITIVE).all()
    assert (drawn[:5] == 100).all()


@pytest.mark.parametrize("box", [[3, 3, 3, 3], [-20, -20, 500, 500], [30, 30, 10, 10]])
def test_odd_boxes_are_drawn_too(box):
    assert (pictures.draw_boxes(GREY, np.array(box)) != GREY).any()


def test_a_panel_places_pictures_of_any_size_in_order():
    wide, tall = np.full((20, 40, 3), 10, np.uint8), np.full((80, 20, 3), 200, np.uint8)
    sheet = pictures.panel([[wide, tall], [tall]], cell=64)
    assert sheet.dtype == np.uint8
    found, count = ndimage.label((sheet != 255).any(-1))
    assert count == 3
    sizes = [(s[0].stop - s[0].start, s[1].stop - s[1].start) for s in ndimage.find_objects(found)]
    assert sorted(sizes) == [(32, 64), (64, 16), (64, 16)]
    assert sheet[ndimage.find_objects(found)[0]].max() == 10


def test_captions_take_room_and_long_ones_wrap():
    row = [[GREY, GREY]]
    plain = pictures.panel(row, cell=160)
    short = pictures.panel(row, titles=["a", "b"], cell=160)
    long = pictures.panel(
        row, titles=["a", "many words that do not fit above a picture"], row_labels=["first"], cell=160
    )
    assert plain.shape[0] < short.shape[0] < long.shape[0]
    assert plain.shape[1] == short.shape[1] < long.shape[1]


def test_captions_must_fit_the_pictures():
    with pytest.raises(ValueError, match="1 titles and 0 row labels for 1 rows of 2"):
        pictures.panel([[GREY, GREY]], titles=["only one"])
