"""configs/sami_ti.py with the teacher looking at whole images at its native 1024 px: what `sadist features` runs.

Paper: Xiong et al. 2023, "EfficientSAM", arXiv 2312.00863, sec. 3.2; this view of the teacher is ours.
Command: sadist features configs/sami_ti_frames.py --root imagenet/train --out features/imagenet, then
  configs/sami_ti_cached.py. (`sadist train` works too, with the teacher in the step: the same features at 224 times the
  FLOPs.)
Hardware: 5961 GFLOP an image (a formula): 7.6 EFLOP for ImageNet-1K, 5.4 hours of one H100 at 40 % of its peak; 2.1 MB
  an image, 2.7 TB.
Number: none yet.
"""

from sami_ti import run

from sadist_jax.models.vit import Vit
from sadist_jax.train.run import Run


def config() -> Run:
    return run("sami_ti_frames", Vit.ti(dtype="bfloat16"), teacher_view="full1024")
