"""WeSAM: SAM ViT-B adapts to Kvasir-SEG, polyps.

Paper: Zhang et al. 2024, arXiv 2312.03502.
Command: sadist train configs/wesam_kvasir.py beside sam_vit_b_01ec64.pth and the folder Kvasir-SEG
Hardware, prompts, the other rows and what is ours: as configs/wesam_coco.py; 834 images to train on.
Number: mean IoU on the test part with box / points / `coarse_box`: 85.47 / 75.23 / 67.40 in the paper, and 81.59 /
  62.30 / 54.03 before. Not reproduced here.
"""

from _wesam import Asked, How, run
from _wesam_sets import kvasir

from sadist_jax.train.run import Run


def config(how: How = "weak", prompt: Asked = "box") -> Run:
    """`how`: WeSAM as the paper means it, as it was released, with the true masks, or entropy minimisation."""
    return run("kvasir", kvasir(), how, prompt)
