import numpy as np

from sadist_jax.predict.small_regions import fill_holes, remove_islands


def picture(text):
    return np.array([[c == "#" for c in line] for line in text.split()])


def test_small_holes_are_filled_and_large_ones_stay():
    mask = picture("######## #.##...# ####...# ######## ########")
    np.testing.assert_array_equal(fill_holes(mask, 2)[0], picture("######## ####...# ####...# ######## ########"))
    assert fill_holes(mask, 7)[0].all()
    assert [fill_holes(mask, n)[1] for n in (1, 2, 7)] == [False, True, True]


def test_diagonal_pixels_are_one_part():
    mask = picture("#..... .#.... ...... ....##")
    np.testing.assert_array_equal(remove_islands(mask, 2)[0], mask)
    np.testing.assert_array_equal(remove_islands(mask, 3)[0], picture("#..... .#.... ...... ......"))


def test_the_largest_stays_when_all_are_small():
    mask = picture("##.# ...# ##.#")
    np.testing.assert_array_equal(remove_islands(mask, 100)[0], picture("...# ...# ...#"))
    whole = picture("##.. ##..")
    assert remove_islands(whole, 100)[1]  # it stays as it is, but a small part existed
    assert not remove_islands(whole, 4)[1]


def test_nothing_in_nothing_out():
    empty = np.zeros((3, 4), bool)
    assert not remove_islands(empty, 5)[0].any()
    assert not fill_holes(empty, 5)[0].any()
    assert fill_holes(empty, 100)[0].all()
    assert fill_holes(~empty, 5)[0].all()
