import numpy as np
import pytest

from sadist_jax.errors import BadInput
from sadist_jax.predict.grid import Everything, crops_of, point_grid, point_grids


def test_the_points_are_the_middles_of_cells_row_by_row():
    expected = [[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]]
    np.testing.assert_allclose(point_grid(2), expected)


def test_layers_have_fewer_points_a_side():
    """Kirillov et al. 2023, app. B: 32, 16, 8 a side."""
    assert [len(grid) for grid in point_grids(32, 2, 2)] == [32**2, 16**2, 8**2]


def test_crops_of_two_layers():
    """Sides by hand: overlap int(341/1000 * 300 * 2/2) = 102 in layer 1, half of it in layer 2."""
    crops = crops_of((300, 400), 2, 0.341)
    assert [crop.layer for crop in crops] == [0, *[1] * 4, *[2] * 16]
    assert crops[0].box == (0, 0, 400, 300)
    # ceil((102 + 400) / 2) = 251 wide, ceil((102 + 300) / 2) = 201 tall, moved on by 251 - 102 and 201 - 102
    assert [crop.box for crop in crops[1:5]] == [
        (0, 0, 251, 201), (0, 99, 251, 300), (149, 0, 400, 201), (149, 99, 400, 300),
    ]  # fmt: skip
    assert crops[1].shape == (201, 251)
    overlap = int(0.341 * 300 * 2 / 4)  # 51
    wide = -(-(overlap * 3 + 400) // 4)
    assert {crop.box[2] - crop.box[0] for crop in crops[5:]} <= {wide, 400 - 3 * (wide - overlap)}


@pytest.mark.parametrize("image", [(1, 1), (1, 7), (3, 2)])
def test_tiny_images_have_crops_that_are_not_empty(image):
    for crop in crops_of(image, 2, 512 / 1500):
        assert min(crop.shape) > 0
        assert crop.box[2] <= image[1]
        assert crop.box[3] <= image[0]


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"points_per_batch": 0}, "points_per_batch"),
        ({"crop_n_layers": -1}, "crop_n_layers"),
        ({"points_per_side": 0}, "points of layer 0"),
        ({"points_per_side": 4, "crop_n_layers": 1, "crop_n_points_downscale_factor": 8}, "points of layer 1"),
        ({"crop_overlap_ratio": 1}, "crop_overlap_ratio must be 0 or more and below 1"),
        ({"min_mask_region_area": -1}, "min_mask_region_area not negative"),
        ({"point_grids": [np.array([[0.5, np.nan]])]}, "between 0 and 1"),
        ({"point_grids": [np.array([[0.5, 1.5]])]}, "between 0 and 1"),
        ({"point_grids": [np.array([[0.5, 0.5]])], "crop_n_layers": 1}, "1 point_grids for 2 layers"),
    ],
)
def test_bad_options_are_refused(options, why):
    with pytest.raises(BadInput, match=why):
        Everything(**options)
