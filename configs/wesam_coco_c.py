"""WeSAM: SAM ViT-B adapts to a corrupted COCO val2017, one of fifteen corruptions at a time.

Paper: Zhang et al. 2024, arXiv 2312.03502; the corruptions are those of Michaelis et al. 2019, arXiv 1907.07484.
Command: sadist train configs/wesam_coco_c.py beside sam_vit_b_01ec64.pth and the folder coco; another
  corruption is the third value: sadist train configs/wesam_coco_c.py:weak:box:snow
Hardware, prompts, the other rows and what is ours: as configs/wesam_coco.py.
Number: mean IoU on the test part with boxes: 71.05 on average over the fifteen in the paper, 66.73 before; fog 77.09
  and 72.39. Not reproduced here.
"""

from typing import Literal

from _wesam import Asked, How, run
from _wesam_sets import coco_c

from sadist_jax.train.run import Run

Kind = Literal[
    "gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "glass_blur", "motion_blur", "zoom_blur", "snow",
    "frost", "fog", "brightness", "contrast", "elastic_transform", "pixelate", "jpeg_compression",
]  # fmt: skip


def config(how: How = "weak", prompt: Asked = "box", kind: Kind = "fog") -> Run:
    """`how`, `prompt`: as in configs/wesam_coco.py. `kind`: of data/corruptions.py; severity 5."""
    return run(f"coco_{kind}", coco_c(kind=kind), how, prompt)
