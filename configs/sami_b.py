"""SAMI pretraining of ViT-B on ImageNet-1K, with SAM ViT-H as teacher: configs/sami_ti.py with another student.

Paper: Xiong et al. 2023, "EfficientSAM", arXiv 2312.00863, sec. 3.2 and 4.1.
Command: sadist train configs/sami_b.py --data.source.root imagenet/train --starts.0.source sam_vit_h_4b8939.pth
Hardware: as configs/sami_ti.py, whose cost is nearly all the teacher's.
Number: fine-tuned on ImageNet-1K, the paper's ViT-B reaches 84.8 top-1 (MAE 83.6); not reproduced here yet.
"""

from sami_ti import run

from sadist_jax.models.vit import Vit
from sadist_jax.train.run import Run


def config() -> Run:
    return run("sami_b", Vit.b(dtype="bfloat16"))
