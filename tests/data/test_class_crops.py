import numpy as np
import pytest
import skimage.data
from PIL import Image

from sadist_jax.codecs import augment, crops
from sadist_jax.data.class_crops import CentreCrops, ClassCrops
from sadist_jax.data.order import generator
from sadist_jax.data.sample import Sample, unlabelled
from sadist_jax.errors import BadInput
from tests.data.made import flat, noise

BOTH = [ClassCrops(size=16, classes=5), CentreCrops(size=16, resize=20, classes=5)]


@pytest.mark.parametrize("transform", BOTH, ids=["augmented", "centre"])
@pytest.mark.parametrize("hw", [(40, 60), (1, 200), (200, 3)])
def test_a_row_is_a_square_and_its_label(transform, hw):
    row, filler = transform(unlabelled(noise(*hw), "a", 4), generator(0, 1)), transform.filler()
    assert row.keys() == filler.keys() == {"image", "label"}
    for name in row:
        assert (row[name].shape, row[name].dtype) == (filler[name].shape, filler[name].dtype)
    assert row["image"].shape == (16, 16, 3)
    assert (row["label"], row["label"].dtype, filler["image"].any()) == (4, np.int32, False)


def test_augmented_is_the_crop_then_rand_augment_from_one_generator():
    sample = unlabelled(noise(40, 60), "a", 0)
    transform = ClassCrops(size=16, scale=(0.5, 0.6), operations=3, magnitude=7.0)
    for position in range(5):
        rng = generator(0, position)
        view = crops.random_resized_crop(sample.image, 16, rng, (0.5, 0.6))
        expected = augment.rand_augment(view, rng, 3, 7.0, 0.5)
        np.testing.assert_array_equal(transform(sample, generator(0, position))["image"], expected)


def test_without_operations_it_is_the_crop():
    view = ClassCrops(size=16, operations=0)(unlabelled(noise(9, 9), "a", 0), generator(0, 1))["image"]
    np.testing.assert_array_equal(view, crops.random_resized_crop(noise(9, 9), 16, generator(0, 1), (0.08, 1.0)))


@pytest.mark.parametrize("upright", [False, True])
def test_the_middle_of_the_resized_picture(upright):
    """300 x 451 (h x w) -> 256 x floor(256 * 451 / 300) = 256 x 384; of that, rows 16..239 and columns 80..303."""
    photo = np.ascontiguousarray(skimage.data.chelsea())
    assert photo.shape == (300, 451, 3)
    expected = np.asarray(Image.fromarray(photo).resize((384, 256), Image.Resampling.BICUBIC))[16:240, 80:304]
    if upright:
        photo = np.ascontiguousarray(photo.swapaxes(0, 1))
        expected = expected.swapaxes(0, 1)
    row = CentreCrops()(unlabelled(photo, "chelsea", 285), generator(0, 0))
    np.testing.assert_allclose(row["image"].astype(int), expected.astype(int), atol=2)  # Pillow's two passes
    assert row["label"] == 285


def test_a_sample_with_masks_too_is_taken_by_its_label():
    """What Tfds gives of a data set that has both."""
    sample = Sample(flat(9), np.ones((1, 6, 8), bool), np.zeros(1, bool), np.ones(1, np.int64), "pets/train/0", 3)
    assert [int(transform(sample, generator(0, 0))["label"]) for transform in BOTH] == [3, 3]


@pytest.mark.parametrize("transform", BOTH, ids=["augmented", "centre"])
def test_labels_that_the_model_does_not_know_are_refused(transform):
    with pytest.raises(BadInput, match=r"b/x\.png has no label; .* it must be 0 to 4: name a source with labels"):
        transform(unlabelled(noise(4, 4), "b/x.png"), generator(0, 0))
    with pytest.raises(BadInput, match=r"b/x\.png has the label 5; of a model with 5 classes"):
        transform(unlabelled(noise(4, 4), "b/x.png", 5), generator(0, 0))


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"size": 0}, "crop's size is 0"),
        ({"scale": (0.0, 1.0)}, "crop's scale"),
        ({"scale": (0.9, 0.2)}, "crop's scale"),
        ({"operations": -1}, "operations -1"),
        ({"magnitude": 11.0}, "magnitude 11.0"),
        ({"spread": -0.5}, "spread -0.5"),
    ],
)
def test_impossible_options_are_refused(options, why):
    with pytest.raises(BadInput, match=why):
        ClassCrops(**options)


def test_a_crop_larger_than_the_picture_is_refused():
    with pytest.raises(BadInput, match="resized to 200 px, which has no crop of 224"):
        CentreCrops(resize=200)
