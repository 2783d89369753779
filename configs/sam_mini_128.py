"""sam_mini, first of two stages: promptable training at 128 px, where a step costs a quarter.

Paper: Kirillov et al. 2023, "Segment Anything", app. A (losses, prompts), at a size for CPUs.
Command: python benchmarks/mini_teacher_data.py --coco200 DIR --out data/sam_mini
         sadist train configs/sam_mini_128.py
Hardware and number: see sadist_jax/weights/sam_mini.md, the card of the shipped weights.
Data: three quarters generated scenes with surfaces and outlines of photos, one quarter 26 COCO photos with panoptic
segments, all of which may be redistributed. Next: configs/sam_mini.py.
"""

from sadist_jax.data.coco_panoptic import CocoPanoptic
from sadist_jax.data.folder import Folder
from sadist_jax.data.mix import Mix
from sadist_jax.data.promptable_frames import PromptableFrames
from sadist_jax.data.scene_source import SceneSource
from sadist_jax.methods.clicks import Clicks
from sadist_jax.methods.promptable import Promptable
from sadist_jax.models.sam import Sam
from sadist_jax.train.checkpoint import CheckpointSpec
from sadist_jax.train.log import LogSpec
from sadist_jax.train.optim import Optim
from sadist_jax.train.run import Data, Run

DATA = "data/sam_mini"


def data(side: int, scene_side: int) -> Data:
    """The mixture, in frames of `side` pixels; scenes are generated at `scene_side` pixels."""
    coco = CocoPanoptic(f"{DATA}/panoptic.json", f"{DATA}/panoptic", f"{DATA}/coco")
    photos = Mix(((coco, 26.0), (Folder(f"{DATA}/photos"), 13.0)))
    scenes = SceneSource(scene_side, count=1_000_000, photos=photos)
    frames = PromptableFrames(side, instances=4, jitter=(0.7, 1.6), flip=True, min_area=side * side // 1000)
    return Data(Mix(((scenes, 3.0), (coco, 1.0))), frames, workers=1)


def config() -> Run:
    return Run(
        name="sam_mini_128",
        method=Promptable(Sam.mini(), Clicks(rounds=3, quiet_rounds=0), remat=False),
        data=data(128, 176),
        steps=2500,
        global_batch=16,
        optim=Optim(lr=1e-3, warmup=200, weight_decay=0.05, no_decay=(".*pos_embed", ".*rel_pos_[hw]"), clip_norm=1.0),
        checkpoint=CheckpointSpec(every=250),
        log=LogSpec(every=25),
    )
