"""WeSAM: SAM ViT-B adapts to OCID, cluttered tables and floors.

Paper: Zhang et al. 2024, arXiv 2312.03502.
Command: sadist train configs/wesam_ocid.py beside sam_vit_b_01ec64.pth and the folder OCID-dataset
Hardware, prompts, the other rows and what is ours: as configs/wesam_coco.py; 2049 images to train on.
Number: mean IoU on the test part with box / points / `coarse_box`: 88.09 / 80.14 / 77.41 in the paper, and 86.35 /
  71.41 / 72.81 before. Not reproduced here.
"""

from _wesam import Asked, How, run
from _wesam_sets import ocid

from sadist_jax.train.run import Run


def config(how: How = "weak", prompt: Asked = "box") -> Run:
    """`how`: WeSAM as the paper means it, as it was released, with the true masks, or entropy minimisation."""
    return run("ocid", ocid(), how, prompt)
