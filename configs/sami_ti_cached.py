"""configs/sami_ti.py without a teacher in the step: `sadist features` has computed what it gives for each image.

Paper: Xiong et al. 2023, "EfficientSAM", arXiv 2312.00863, sec. 3.2; these two views of the teacher are ours.
Command: sadist features sami_ti:full1024 --root imagenet/train --out features/imagenet, which prints a digest; then
  sadist train sami_ti_cached:full1024 --data.source.source.root imagenet/train --data.source.cache features/imagenet
  --data.source.digest DIGEST. Likewise with fixed224.
Hardware: features: 5961 GFLOP an image at 1024 px (a formula), 7.6 EFLOP for ImageNet-1K, 5.4 hours of one H100 at 40 %
  of its peak; 254 GFLOP at 224 px. Training: 26.8 GFLOP a sample, 13.7 EFLOP for 400 epochs, 10 hours, if the disk
  keeps up: a sample takes 2.1 MB (full1024; 2 GB/s carry 950 samples a second, 150 hours; 2.7 TB in all) or 100 KB
  (fixed224; 128 GB in all, which fit into memory).
Number: fine-tuned on ImageNet-1K, the paper's ViT-Ti reaches 76.8 top-1; not reproduced here yet.
"""

import dataclasses
from typing import Literal

import sami_ti

from sadist_jax.data.features import WithFeatures
from sadist_jax.data.sami_views import CachedCrops, FixedCrops
from sadist_jax.methods.teacher import CachedFeatures
from sadist_jax.train.run import Run


def config(teacher_view: Literal["fixed224", "full1024"] = "full1024") -> Run:
    run = sami_ti.config(teacher_view)
    dim = run.method.teacher.dim
    crops = {"full1024": CachedCrops(channels=dim), "fixed224": FixedCrops(cached=dim)}[teacher_view]
    source = WithFeatures(run.data.source, "features/imagenet", digest="")
    return dataclasses.replace(
        run,
        name=f"sami_ti_cached_{teacher_view}",
        method=dataclasses.replace(run.method, teacher=CachedFeatures(dim)),
        data=dataclasses.replace(run.data, source=source, transform=crops),
        starts=(),
    )
