import dataclasses

import jax
import numpy as np
import pytest
from PIL import Image

import sadist_jax
from sadist_jax.models.efficient_sam import EfficientSam
from sadist_jax.models.sam import Sam
from sadist_jax.models.vit import Vit
from sadist_jax.nn import table


@pytest.fixture(scope="module")
def photo_and_weights(tmp_path_factory):
    """A photo of 90 x 60 pixels, and random weights of a tiny SAM and a tiny EfficientSAM."""
    folder = tmp_path_factory.mktemp("predict")
    photo = np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)
    Image.fromarray(photo).save(folder / "photo.png")
    sam = Sam.mini(dim=32, depth=1, heads=1, global_blocks=(0,), image_size=64)
    small = EfficientSam.mini()
    student = dataclasses.replace(small, image_encoder=Vit.mini(dim=64, heads=1, depth=1, image_size=32))
    for name, model in (("sam.safetensors", sam), ("student.pt", student)):
        sadist_jax.save(folder / name, model, drawn(model))
    (folder / "text.png").write_text("no picture")
    np.save(folder / "nan.npy", np.full((1, 32, 32), np.nan))
    return folder


@pytest.fixture
def here(photo_and_weights, tmp_path, monkeypatch):
    """Their folder; the current one is empty."""
    monkeypatch.chdir(tmp_path)
    return photo_and_weights


def drawn(model):
    """Random parameters, without compiling anything."""
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: rng.normal(0, 0.1, leaf.shape).astype(np.float32), table.abstract(model.table()))
