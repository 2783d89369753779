"""WeSAM: SAM ViT-B adapts to the test part of COD10K, camouflaged animals.

Paper: Zhang et al. 2024, arXiv 2312.03502.
Command: sadist train configs/wesam_cod10k.py beside sam_vit_b_01ec64.pth and the folder COD10K-v2
Hardware, prompts, the other rows and what is ours: as configs/wesam_coco.py; 1621 images to train on.
Number: mean IoU on the test part with box / points / `coarse_box`: 71.93 / 70.55 / 45.87 in the paper, and 66.32 /
  63.61 / 40.04 before. Not reproduced here.
"""

from _wesam import Asked, How, run
from _wesam_sets import cod10k

from sadist_jax.train.run import Run


def config(how: How = "weak", prompt: Asked = "box") -> Run:
    """`how`: WeSAM as the paper means it, as it was released, with the true masks, or entropy minimisation."""
    return run("cod10k", cod10k(), how, prompt)
