import jax.numpy as jnp
import numpy as np
import pytest

from sadist_jax.nn.positions import resize_positions, sincos
from sadist_jax.ops.resize import resize


@pytest.mark.parametrize("first", [False, True])
def test_start_positions_are_those_of_mae(first):
    """He et al. 2022: half of the channels code the column, half the row; sines, then cosines, of 10000^(-4i/d) n."""
    grid, dim = 3, 8
    positions = sincos(grid, dim, first=first)
    assert positions.shape == (1, grid**2 + first, dim)
    if first:
        np.testing.assert_array_equal(positions[0, 0], 0)
    for row, col in np.ndindex(grid, grid):
        halves = [[f(n * 10000.0 ** (-i / 2)) for f in (np.sin, np.cos) for i in range(2)] for n in (col, row)]
        np.testing.assert_allclose(positions[0, first + row * grid + col], np.concatenate(halves), atol=1e-6)


def test_positions_of_the_native_size_are_left_alone():
    positions = jnp.array(np.random.default_rng(0).standard_normal((1, 4, 4, 2), np.float32))
    assert resize_positions(positions, (4, 4)) is positions


def test_other_sizes_are_resized_bicubically():
    positions = jnp.array(np.random.default_rng(0).standard_normal((1, 4, 4, 2), np.float32))
    np.testing.assert_array_equal(resize_positions(positions, (4, 6)), resize(positions, (4, 6), "bicubic"))
