"""configs/sami_ti.py without a teacher in the step: its features of whole images come from `sadist features`.

Paper: Xiong et al. 2023, "EfficientSAM", arXiv 2312.00863, sec. 3.2; this view of the teacher is ours.
Command: sadist train configs/sami_ti_cached.py --data.source.source.root imagenet/train --data.source.cache
  features/imagenet --data.source.digest DIGEST, after configs/sami_ti_frames.py; `sadist features` prints the digest.
Hardware: 26.7 GFLOP a sample (a formula): 13.7 EFLOP for 400 epochs, 10 hours of one H100 at 40 % of its peak. A run
  that makes n samples a second reads 2.1 n MB.
Number: fine-tuned on ImageNet-1K, the paper's ViT-Ti reaches 76.8 top-1; not reproduced here yet.
"""

import dataclasses

import sami_ti

from sadist_jax.data.features import WithFeatures
from sadist_jax.data.sami_views import CachedCrops
from sadist_jax.methods.teacher import CachedFeatures
from sadist_jax.train.run import Run


def config() -> Run:
    run = sami_ti.config()
    method = dataclasses.replace(run.method, teacher=CachedFeatures(run.method.teacher.dim))
    data = dataclasses.replace(
        run.data, source=WithFeatures(run.data.source, "features/imagenet", digest=""), transform=CachedCrops()
    )
    return dataclasses.replace(run, name="sami_ti_cached", method=method, data=data, starts=())
