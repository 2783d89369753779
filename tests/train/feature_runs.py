"""A run whose teacher sees whole images, for tests of its cache."""

import dataclasses

import jax
import numpy as np
from PIL import Image

from sadist_jax.data.features import WithFeatures, read_manifest
from sadist_jax.data.folder import Folder
from sadist_jax.data.sami_views import CachedCrops, FixedCrops, FrameCrops
from sadist_jax.methods.sami import Sami
from sadist_jax.methods.teacher import FrameFeatures, SamFeatures
from sadist_jax.models.sami_decoder import CrossDecoder
from sadist_jax.models.vit import Vit
from sadist_jax.models.vit_det import VitDet
from sadist_jax.nn import table
from sadist_jax.train.log import LogSpec
from sadist_jax.train.optim import Optim
from sadist_jax.train.run import Data, Run
from sadist_jax.train.start import Start
from sadist_jax.weights import safetensors

ENCODER = VitDet(8, 2, 2, (1,), window=2, patch=8, image_size=64, out_dim=8)
STUDENT = Vit(dim=16, depth=2, heads=2, patch=8, image_size=32)
METHOD = Sami(STUDENT, CrossDecoder(16, 8, 4, dim=16, depth=2, heads=2), FrameFeatures(ENCODER))
CROPS = FrameCrops(size=32, grid=4, side=64, patch=8)
CACHED = CachedCrops(size=32, grid=4, side=64, patch=8, channels=8)


def weights(path, seed=0):
    params = table.init({"image_encoder": ENCODER.table()}, jax.random.key(seed))
    safetensors.write(path, table.to_reference({"image_encoder": ENCODER.table()}, params))
    return params


def make(tmp_path):
    """Ten photos, one of them damaged, and a teacher."""
    rng = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for i in range(10):
        picture = Image.fromarray(rng.integers(0, 256, (40 + 4 * i, 70, 3), np.uint8))
        picture.resize((4 * picture.width, 4 * picture.height)).save(tmp_path / "photos" / f"{i}.png")
    (tmp_path / "photos" / "4.png").write_bytes(b"no picture")
    weights(tmp_path / "teacher.safetensors")
    return Run(
        name="frames",
        method=METHOD,
        data=Data(Folder(str(tmp_path / "photos")), CROPS, max_bad_fraction=0.2),
        steps=20,
        global_batch=8,
        out=str(tmp_path / "frames"),
        optim=Optim(lr=1e-3, warmup=2),
        starts=(Start(r"teacher\.(.*)", str(tmp_path / "teacher.safetensors")),),
        log=LogSpec(every=1),
    )


def cached_source(run, folder):
    return WithFeatures(run.data.source, str(folder), read_manifest(folder).digest)


def of_crops(run):
    """The same run with a teacher that sees the middle of each picture, as the student does."""
    data = dataclasses.replace(run.data, transform=FixedCrops(32, 4))
    return dataclasses.replace(run, method=dataclasses.replace(METHOD, teacher=SamFeatures(ENCODER)), data=data)
