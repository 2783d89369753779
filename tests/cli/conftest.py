import dataclasses

import jax
import numpy as np
import pytest
from PIL import Image

import sadist_jax
from sadist_jax import cli
from sadist_jax.models.efficient_sam import EfficientSam
from sadist_jax.models.sam import Sam
from sadist_jax.models.vit import Vit
from sadist_jax.nn import table
from tests.data.made import noise, save, write


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


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A tiny SAM with drawn weights: it finds something everywhere."""
    model = Sam.mini(dim=32, depth=1, heads=1, global_blocks=(0,), image_size=64)
    path = tmp_path_factory.mktemp("label") / "sam.safetensors"
    sadist_jax.save(path, model, drawn(model))
    return str(path)


@pytest.fixture
def label(weights, tmp_path, monkeypatch, capsys):
    """Function that runs the command in tmp_path: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def run(*argv):
        code = cli.main(["label", *argv, "--checkpoint", weights])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def photos(tmp_path):
    """Four pictures of several sizes and a file that is none."""
    for i in range(4):
        save(tmp_path / "photos" / f"{i}.png", noise(20 + i, 30, i))
    (tmp_path / "photos" / "notes.txt").write_text("no picture")
    return tmp_path / "photos"


@pytest.fixture
def boxes(photos, tmp_path):
    """A COCO file of three of them, in an order of its own, with boxes and no masks."""
    images = [{"id": 70 - i, "file_name": f"{i}.png", "height": 20 + i, "width": 30} for i in (2, 0, 1)]
    annotations = [
        {"id": 501, "image_id": 70, "category_id": 17, "bbox": [2, 3, 10, 8], "area": 1.0},
        {"id": 40, "image_id": 68, "category_id": 5, "bbox": [20.5, 10.25, 30, 30]},
        {"id": 41, "image_id": 68, "category_id": 5, "bbox": [0, 0, 30, 22], "iscrowd": 1},
        {"id": 42, "image_id": 68, "category_id": 5, "bbox": [30, 0, 3, 3]},
    ]
    categories = [{"id": 17, "name": "cat"}, {"id": 5, "name": "airplane"}]
    return write(tmp_path / "boxes.json", {"images": images, "annotations": annotations, "categories": categories})
