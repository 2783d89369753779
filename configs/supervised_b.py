"""Fine-tuning of a SAMI-pretrained ViT-B on ImageNet-1K: configs/supervised_ti.py with another encoder.

Paper: Xiong et al. 2023, "EfficientSAM", arXiv 2312.00863, sec. 4.1 and table 1: layer decay 0.75, the rest as for Ti.
Command: sadist train configs/supervised_b.py --data.source.root imagenet/train --starts.0.source runs/sami_b
Hardware: 105 GFLOP an image (as in configs/supervised_ti.py): 13.4 EFLOP, 9.4 hours of one H100 at 40 % of its peak.
Number: top-1 84.8 (MAE 83.6, DeiT 83.8); not reproduced here yet.
"""

from supervised_ti import run

from sadist_jax.models.vit import Vit
from sadist_jax.train.run import Run


def config() -> Run:
    return run("supervised_b", Vit.b(dtype="bfloat16"), "runs/sami_b", layer_decay=0.75)
