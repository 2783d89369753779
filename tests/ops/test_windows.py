import jax.numpy as jnp
import numpy as np
import pytest

from sadist_jax.ops.windows import partition, unpartition


@pytest.mark.parametrize(
    ("height", "width", "window", "count"), [(8, 6, 2, 12), (7, 5, 3, 6), (64, 64, 14, 25), (2, 3, 4, 1)]
)
def test_a_map_survives_the_round_trip(height, width, window, count):
    x = jnp.arange(2 * height * width * 3, dtype=jnp.float32).reshape(2, height, width, 3)
    windows = partition(x, window)
    assert windows.shape == (2 * count, window, window, 3)
    np.testing.assert_array_equal(unpartition(windows, (height, width)), x)


def test_windows_come_row_by_row_and_are_filled_with_zeros_at_the_bottom_and_right():
    x = jnp.arange(1, 16).reshape(1, 3, 5, 1)  # rows 1..5, 6..10, 11..15
    windows = partition(x, 2)[..., 0]
    expected = [
        [[1, 2], [6, 7]], [[3, 4], [8, 9]], [[5, 0], [10, 0]],
        [[11, 12], [0, 0]], [[13, 14], [0, 0]], [[15, 0], [0, 0]],
    ]  # fmt: skip
    np.testing.assert_array_equal(windows, expected)
