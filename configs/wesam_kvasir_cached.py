"""configs/wesam_kvasir.py without the anchor in the step: `sadist features` has kept its embeddings of each view.

Paper: Zhang et al. 2024, arXiv 2312.03502; keeping the embeddings is ours.
Command: sadist features configs/wesam_kvasir.py --out features/kvasir, which prints a digest; then
  sadist train configs/wesam_kvasir_cached.py --data.source.digest DIGEST
Hardware: as configs/wesam_coco.py; a picture's four flips take 8.4 MB, 7 GB for the 834 to train on.
Number: that of configs/wesam_kvasir.py, but for bfloat16 in what is kept.
"""

import dataclasses

import wesam_kvasir
from _wesam import Asked

from sadist_jax.data.features import WithFeatures
from sadist_jax.train.run import Run


def config(prompt: Asked = "box") -> Run:
    run = wesam_kvasir.config("weak", prompt)
    sam = run.method.model.sam
    side = sam.image_size // 16
    data = dataclasses.replace(
        run.data,
        source=WithFeatures(run.data.source, "features/kvasir", digest=""),
        transform=dataclasses.replace(run.data.transform, anchor=(side, side, 256)),
    )
    return dataclasses.replace(run, name=f"{run.name}_cached", data=data)
