"""WeSAM: SAM ViT-B adapts to CHAMELEON, camouflaged animals.

Paper: Zhang et al. 2024, arXiv 2312.03502.
Command: sadist train configs/wesam_chameleon.py beside sam_vit_b_01ec64.pth and the folder CHAMELEON
Hardware, prompts, the other rows and what is ours: as configs/wesam_coco.py; 61 images to train on.
Number: mean IoU on the test part with box / points / `coarse_box`: 75.94 / 74.00 / 66.83 in the paper, and 51.32 /
  39.37 / 45.78 before. Not reproduced here.
"""

from _wesam import Asked, How, run
from _wesam_sets import chameleon

from sadist_jax.train.run import Run


def config(how: How = "weak", prompt: Asked = "box") -> Run:
    """`how`: WeSAM as the paper means it, as it was released, with the true masks, or entropy minimisation."""
    return run("chameleon", chameleon(), how, prompt)
