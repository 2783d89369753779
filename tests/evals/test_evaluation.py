"""What every evaluation shares."""

import pytest

from sadist_jax.evals.evaluation import evenly_spaced


@pytest.mark.parametrize(
    ("limit", "expected"), [(None, [0, 1, 2, 3, 4]), (9, [0, 1, 2, 3, 4]), (3, [0, 2, 4]), (1, [0])]
)
def test_a_limit_spaces_the_images_evenly(limit, expected):
    assert evenly_spaced(5, limit) == expected
