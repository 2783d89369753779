"""WeSAM: SAM ViT-B adapts to CAMO, camouflaged animals.

Paper: Zhang et al. 2024, arXiv 2312.03502.
Command: sadist train configs/wesam_camo.py beside sam_vit_b_01ec64.pth and the folder CAMO-V.1.0-CVPR2019
Hardware, prompts, the other rows and what is ours: as configs/wesam_coco.py; 1000 images to train on.
Number: mean IoU on the test part with box / points / `coarse_box`: 73.42 / 65.55 / 62.90 in the paper, and 62.72 /
  57.43 / 50.85 before. Not reproduced here.
"""

from _wesam import Asked, How, run
from _wesam_sets import camo

from sadist_jax.train.run import Run


def config(how: How = "weak", prompt: Asked = "box") -> Run:
    """`how`: WeSAM as the paper means it, as it was released, with the true masks, or entropy minimisation."""
    return run("camo", camo(), how, prompt)
