"""Fine-tuning on labels in miniature: configs/supervised_ti.py for a CPU, on tiles of ten photos, nothing to download.

Paper: Xiong et al. 2023, "EfficientSAM", arXiv 2312.00863, sec. 4.1: mixup, label smoothing, RandAugment.
Command: sadist train configs/sami_mini.py, then sadist train configs/supervised_mini.py
Hardware: two CPU cores, one minute without SAMI; metrics.jsonl has the speed.
Number: top-1 on tiles of other columns of the photos than those trained on, `held_out/top_1` in metrics.jsonl: 0.83
  after 200 steps of SAMI, whose run `--starts.0.source` names, and 0.72 from scratch (supervised_mini:scratch). With
  other draws of mixup these were 0.78 and 0.77, and the standard error is 0.04: one run each shows little about SAMI.
  Not measured after the 1000 steps of configs/sami_mini.py.

Ours: which of ten photos is this 64 px tile a part of? 300 tiles for training, 100 held out, chance is 0.1. The encoder
has seen the photos without labels in SAMI, held-out columns too. Crops of 35 % of a tile and more; no layer decay.
"""

from typing import Literal

import jax
import numpy as np

from sadist_jax.data.class_crops import CentreCrops, ClassCrops
from sadist_jax.data.photo_tiles import PhotoTiles
from sadist_jax.methods.supervised import Supervised
from sadist_jax.models.classifier import Classifier
from sadist_jax.models.vit import Vit
from sadist_jax.ops.pixels import normalize
from sadist_jax.train.checkpoint import CheckpointSpec
from sadist_jax.train.log import LogSpec
from sadist_jax.train.optim import Optim
from sadist_jax.train.run import Data, Evaluation, Run
from sadist_jax.train.start import Start

CLASSES, SIDE = 10, 64


def held_out(method, params, frozen, extra) -> dict[str, float]:
    """Share of the held-out tiles whose photo is named."""
    reader, rng = PhotoTiles("held_out", SIDE).open(), np.random.default_rng(0)
    rows = [CentreCrops(SIDE, SIDE, CLASSES)(reader[i], rng) for i in range(len(reader))]
    images, labels = (np.stack([row[name] for row in rows]) for name in ("image", "label"))
    logits, _ = jax.jit(method.model.apply)(params, normalize(jax.numpy.asarray(images)))
    return {"top_1": float((np.asarray(logits).argmax(-1) == labels).mean())}


def config(encoder: Literal["sami", "scratch"] = "sami") -> Run:
    """`encoder`: starts from the SAMI run, or from random weights."""
    sami = Start(r"(?!fc_norm|head).*", "runs/sami_mini", "student.")
    return Run(
        name="supervised_mini" if encoder == "sami" else "supervised_mini_scratch",
        method=Supervised(Classifier(Vit.mini(), CLASSES)),
        data=Data(PhotoTiles("train", SIDE), ClassCrops(SIDE, CLASSES, scale=(0.35, 1.0))),
        steps=400,
        global_batch=32,
        optim=Optim(lr=1e-3, warmup=20, weight_decay=0.05, no_decay=("pos_embed",)),
        starts=(sami,) if encoder == "sami" else (),
        evals=(Evaluation("held_out", every=100, evaluate=held_out),),
        checkpoint=CheckpointSpec(every=200),
        log=LogSpec(every=25),
    )
