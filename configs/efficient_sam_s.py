"""EfficientSAM-S on SA-1B: configs/efficient_sam_ti.py with ViT-S.

Paper: Xiong et al. 2023, "EfficientSAM", arXiv 2312.00863, sec. 4.1.
Command: sadist train configs/efficient_sam_s.py --data.source.root sa1b --starts.0.source runs/sami_s
Hardware: the paper used 64 A100 of 40 GB and names no hours.
Number: zero-shot COCO mIoU of the paper's EfficientSAM-S: box 76.9, 1 click 50.0, 3 clicks 69.8, as
  evals.promptable.PromptedMasks(placements=("inside",)) asks; not reproduced here yet.
"""

from efficient_sam_ti import run

from sadist_jax.models.efficient_sam import EfficientSam
from sadist_jax.train.run import Run


def config() -> Run:
    return run("efficient_sam_s", EfficientSam.s(dtype="bfloat16", remat=True), "runs/sami_s")
