"""WeSAM: SAM ViT-B adapts to ISIC 2016, skin lesions.

Paper: Zhang et al. 2024, arXiv 2312.03502.
Command: sadist train configs/wesam_isic.py beside sam_vit_b_01ec64.pth and the folder ISIC2016
Hardware, prompts, the other rows and what is ours: as configs/wesam_coco.py; 900 images to train on.
Number: mean IoU on the test part with box / points / `coarse_box`: 80.01 / 62.12 / 75.36 in the paper, and 66.74 /
  53.42 / 62.82 before. Not reproduced here.
"""

from _wesam import Asked, How, run
from _wesam_sets import isic

from sadist_jax.train.run import Run


def config(how: How = "weak", prompt: Asked = "box") -> Run:
    """`how`: WeSAM as the paper means it, as it was released, with the true masks, or entropy minimisation."""
    return run("isic", isic(), how, prompt)
