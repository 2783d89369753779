import numpy as np
import pytest

from sadist_jax.codecs import crops
from sadist_jax.data.order import generator
from sadist_jax.data.sami_crops import SamiCrops
from sadist_jax.data.sample import unlabelled
from sadist_jax.errors import BadInput
from tests.data.made import flat, noise


@pytest.mark.parametrize("hw", [(40, 60), (1, 200), (200, 3)])
def test_a_row_is_one_square_crop(hw):
    row = SamiCrops(size=16)(unlabelled(noise(*hw), "a"), generator(0, 1))
    assert row.keys() == SamiCrops(size=16).filler().keys() == {"image"}
    assert row["image"].shape == (16, 16, 3)
    assert row["image"].dtype == np.uint8
    assert not SamiCrops(size=16).filler()["image"].any()


def test_the_crop_is_drawn_from_the_generator_and_shows_the_picture():
    image = noise(40, 60)
    transform = SamiCrops(size=16, scale=(0.5, 0.6))
    one, again, other = (transform(unlabelled(image, "a"), generator(0, p))["image"] for p in (1, 1, 2))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)
    assert np.array_equal(one, crops.random_resized_crop(image, 16, generator(0, 1), (0.5, 0.6)))
    assert (transform(unlabelled(flat(77), "a"), generator(0, 1))["image"] == 77).all()


def test_half_of_the_crops_are_flipped():
    ramp = np.repeat(np.arange(200, dtype=np.uint8)[None, :, None], 200, axis=0).repeat(3, axis=2)
    rising = 0
    for p in range(200):
        image = SamiCrops(size=8)(unlabelled(ramp, "a"), generator(0, p))["image"]
        rising += int(image[0, -1, 0]) > int(image[0, 0, 0])
    assert 70 <= rising <= 130  # 100 +- 4 standard deviations


@pytest.mark.parametrize("options", [{"size": 0}, {"scale": (0.0, 1.0)}, {"scale": (0.9, 0.2)}, {"scale": (0.5, 1.5)}])
def test_impossible_options_are_refused(options):
    with pytest.raises(BadInput, match=f"crop's {next(iter(options))}"):
        SamiCrops(**options)
