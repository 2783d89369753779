"""WeSAM: SAM ViT-B adapts to COCO val2017 from boxes, points or coarse masks, as on nine other sets.

Paper: Zhang et al. 2024, "Improving the Generalization of Segmentation Foundation Model under Distribution Shift via
  Weakly Supervised Adaptation", arXiv 2312.03502: rank 4 on q and v of every block of the encoder, three branches.
Command: sadist train configs/wesam_coco.py beside sam_vit_b_01ec64.pth and the folder coco (links do); behind a
  colon another row, :weak, :released, :supervised or :tent, and behind one more another prompt, :point, :coarse (a
  polygon's mask with its box) or :coarse_box: sadist train configs/wesam_coco.py:weak:point
Hardware: one GPU; `python -m benchmarks` times this step, and metrics.jsonl has the speed. 4286 images to train on.
Number: mean IoU on the test part with box / points / `coarse_box`, trained with the same, `test/adapted/...`
  in metrics.jsonl: 80.12 / 62.09 / 72.33 in the paper, 74.29 / 55.06 / 65.64 before (the released code makes a box of a
  coarse polygon). Not reproduced here; users of that code report about 76.5 with boxes.

As released: Adam, 1e-4 after 250 steps of warm-up (the drops at 60,000 and 86,666 steps are never reached), weight
decay 1e-4 (decoupled here, added to the gradient there), 40,000 images, at most 40 instances of each: one a step here,
while the release's last configuration has four GPUs with one each, so 10,000 steps. A length of the paper's own was not
found, and an earlier release had 5 epochs. Ours: the weights at the end are scored, where the release keeps the best on
the very part that it reports; SAM's own normalisation, and padding at the right and below.
"""

from _wesam import Asked, How, run
from _wesam_sets import coco

from sadist_jax.train.run import Run


def config(how: How = "weak", prompt: Asked = "box") -> Run:
    """`how`: WeSAM as the paper means it, as it was released, with the true masks, or entropy minimisation."""
    return run("coco", coco(), how, prompt)
