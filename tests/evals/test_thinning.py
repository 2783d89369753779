import numpy as np
import pytest
from skimage import morphology

from sadist_jax.evals.thinning import thin


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.7, 0.9, 0.99])
def test_noise_is_thinned_as_by_scikit_image(share):
    edges = np.random.default_rng(int(100 * share)).random((61, 83)) < share
    np.testing.assert_array_equal(thin(edges), morphology.thin(edges))


def test_thick_curves_are_thinned_as_by_scikit_image():
    y, x = np.mgrid[:90, :120]
    wave = np.abs(y - 45 - 30 * np.sin(x / 15)) < 4  # leaves the image on both sides
    ring = np.abs(np.hypot(x - 60, y - 40) - 25) < 3
    thinned = thin(wave | ring)
    np.testing.assert_array_equal(thinned, morphology.thin(wave | ring))
    squares = thinned[1:, 1:] & thinned[1:, :-1] & thinned[:-1, 1:] & thinned[:-1, :-1]
    assert thinned.any()
    assert not squares.any()


def test_lines_of_one_pixel_stay_and_the_argument_is_kept():
    lines = np.zeros((9, 11), bool)
    lines[4, 1:10] = lines[range(9), range(9)] = True
    lines[0, 10] = True
    before = lines.copy()
    np.testing.assert_array_equal(thin(thin(lines)), thin(lines))
    assert thin(lines)[0, 10]  # a lone pixel
    assert thin(lines)[4, 1:10].all()
    np.testing.assert_array_equal(lines, before)
    assert not thin(np.zeros((3, 4), bool)).any()
