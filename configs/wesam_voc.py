"""WeSAM: SAM ViT-B adapts to Pascal VOC 2012.

Paper: Zhang et al. 2024, arXiv 2312.03502.
Command: sadist train configs/wesam_voc.py beside sam_vit_b_01ec64.pth and the folder VOCdevkit/VOC2012
Hardware, prompts, the other rows and what is ours: as configs/wesam_coco.py; 2497 images to train on.
Number: mean IoU on the test part with box / points / `coarse_box`: 80.27 / 74.15 / 66.72 in the paper, and 69.21 /
  69.21 / 60.79 before, of which the second is probably a misprint. Not reproduced here.
"""

from _wesam import Asked, How, run
from _wesam_sets import voc

from sadist_jax.train.run import Run


def config(how: How = "weak", prompt: Asked = "box") -> Run:
    """`how`: WeSAM as the paper means it, as it was released, with the true masks, or entropy minimisation."""
    return run("voc", voc(), how, prompt)
