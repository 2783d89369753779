"""Random Fourier features against Tancik et al. 2020, eq. 5, with SAM's convention: 2 pi (2 xy - 1) @ matrix."""

import jax.numpy as jnp
import numpy as np

from sadist_jax.nn import fourier

MATRIX = np.random.default_rng(0).standard_normal((2, 4)).astype(np.float32)
PARAMS = {"positional_encoding_gaussian_matrix": jnp.array(MATRIX)}


def expected(x: float, y: float) -> np.ndarray:
    """x, y in 0..1 of the frame."""
    angle = 2 * np.pi * ((2 * x - 1) * MATRIX[0].astype(np.float64) + (2 * y - 1) * MATRIX[1])
    return np.concatenate([np.sin(angle), np.cos(angle)])


def test_the_table_is_a_buffer():
    (leaf,) = fourier.fourier_table(8).values()
    assert leaf.shape == (2, 4)
    assert leaf.role == "buffer"


def test_a_pixel_is_coded_at_its_centre_x_by_width_and_y_by_height():
    code = fourier.encode_pixels(PARAMS, jnp.array([[30.0, 7.0]]), (10, 40))
    np.testing.assert_allclose(code[0], expected(30.5 / 40, 7.5 / 10), atol=1e-5)


def test_a_cell_of_the_grid_is_coded_at_its_centre():
    code = fourier.encode_grid(PARAMS, (3, 5))
    assert code.shape == (3, 5, 8)
    np.testing.assert_allclose(code[2, 1], expected(1.5 / 5, 2.5 / 3), atol=1e-5)


def test_bfloat16_weights_are_coded_in_float32():
    low = {"positional_encoding_gaussian_matrix": jnp.array(MATRIX, jnp.bfloat16)}
    wide = {"positional_encoding_gaussian_matrix": jnp.array(MATRIX, jnp.bfloat16).astype(jnp.float32)}
    code = fourier.encode_grid(low, (3, 5))
    assert code.dtype == jnp.float32
    np.testing.assert_array_equal(code, fourier.encode_grid(wide, (3, 5)))
