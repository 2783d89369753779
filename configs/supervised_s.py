"""Fine-tuning of a SAMI-pretrained ViT-S on ImageNet-1K: configs/supervised_ti.py with another encoder.

Paper: Xiong et al. 2023, "EfficientSAM", arXiv 2312.00863, sec. 4.1 and table 1: layer decay 0.75, the rest as for Ti.
Command: sadist train configs/supervised_s.py --data.source.root imagenet/train --starts.0.source runs/sami_s
Hardware: 27.4 GFLOP an image (as in configs/supervised_ti.py): 3.5 EFLOP, 2.5 hours of one H100 at 40 % of its peak.
Number: top-1 82.7 (MAE 81.5, DeiT 81.2); not reproduced here yet.
"""

from supervised_ti import run

from sadist_jax.models.vit import Vit
from sadist_jax.train.run import Run


def config() -> Run:
    return run("supervised_s", Vit.s(dtype="bfloat16"), "runs/sami_s", layer_decay=0.75)
