"""WeSAM in miniature: sam_mini adapts itself to scenes with hardly any contrast, from boxes alone, on a CPU.

Paper: Zhang et al. 2024, "Improving the Generalization of Segmentation Foundation Model under Distribution Shift via
  Weakly Supervised Adaptation", arXiv 2312.03502: rank 4 on q and v of every block of the encoder, three branches.
Command: sadist train configs/wesam_mini.py; another row, prompt: sadist train configs/wesam_mini.py:supervised:point
Hardware: two CPU cores, minutes; metrics.jsonl has the speed.
Number: mean IoU with boxes on 24 held-out scenes, `held_out/adapted/box` in metrics.jsonl: 0.577; 0.564 before the
  first step (`held_out/Direct/box`). With ten clicks, which it was not trained with, it falls from 0.355 to 0.325.

As released: Adam at 1e-4 after 250 steps of warm-up, one image a step, weight decay 1e-4 (decoupled here, added to the
gradient there). Ours: the domain, generated scenes under "contrast" of severity 5 of ImageNet-C; 400 steps and not
40,000, hence a tenth of the warm-up. At twice the rate masks drift.
"""

from typing import Literal

from _wesam import KINDS, Asked, How, method_of, run_name, table

from sadist_jax.data.corrupted import Corrupted
from sadist_jax.data.in_memory import InMemory
from sadist_jax.data.package_photos import PackagePhotos
from sadist_jax.data.scene_source import SceneSource
from sadist_jax.data.weak_frames import WeakFrames
from sadist_jax.evals.weakly_prompted import WeaklyPrompted
from sadist_jax.methods.adapted import Adapted
from sadist_jax.models.sam import Sam
from sadist_jax.train.log import LogSpec
from sadist_jax.train.optim import Optim
from sadist_jax.train.run import Data, Evaluation, Run
from sadist_jax.train.start import Start

ASKED = WeaklyPrompted(KINDS, size=256, logits=128)


def domain(part: Literal["train", "held_out"], count: int) -> InMemory:
    """Scenes of low contrast; those held out are of other photos."""
    seed = {"train": 0, "held_out": 1}[part]
    return InMemory(Corrupted(SceneSource(256, seed, count, photos=PackagePhotos(part)), "contrast"))


def config(how: How = "weak", prompt: Asked = "box") -> Run:
    """`how`: WeSAM as the paper means it, as it was released, with the true masks, or entropy minimisation."""
    return Run(
        name=run_name("mini", how, prompt),
        method=method_of(how, Adapted(Sam.mini())),
        data=Data(domain("train", 200), WeakFrames(256, instances=8, prompt=prompt)),
        steps=400,
        global_batch=1,
        optim=Optim(lr=1e-4, schedule="constant", warmup=25, weight_decay=1e-4),
        starts=(Start.base("sam_mini"),),
        evals=(Evaluation("held_out", every=100, evaluate=table("mini", domain("held_out", 24), ASKED, how, prompt)),),
        log=LogSpec(every=25),
    )
