"""sam_mini, first of four stages: promptable training at 64 px, a sixteenth of its own pixels.

Paper: Kirillov et al. 2023, "Segment Anything", app. A (losses, prompts), at a size for CPUs.
Command: sadist train configs/sam_mini_64.py, on what benchmarks/mini_teacher_data.py collects in data/sam_mini
Hardware and number: see sadist_jax/weights/sam_mini.md, the card of the shipped weights. Next: configs/sam_mini_128.py.
Data: generated scenes with surfaces and outlines of photos (four tenths), regions of even colour in 65 photos (four
  tenths), and what people outlined in 38 of them (two tenths); all of the photos may be redistributed.
"""

from sadist_jax.data.coco_instances import CocoInstances
from sadist_jax.data.coco_panoptic import CocoPanoptic
from sadist_jax.data.folder import Folder
from sadist_jax.data.label_maps import LabelMaps
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
# SAM-2's 0.25 (SAM names none) makes a logit positive only where a pixel is more likely than 3 to 1 to belong to the
# object: the masks of a small model, which is never that sure, come out too small. IoU is best served by a little below
# 1 to 1.
FOCAL_ALPHA = 0.6
MATRICES = (
    r"image_encoder\.blocks\.\d+\.(attn|mlp)\.\w+\.weight",
    r"mask_decoder\.transformer\..*(_proj|lin[12])\.weight",
)


def data(
    side: int, scene_side: int, min_share: float, *, objects: int = 6, jitter: tuple[float, float] = (0.7, 2.0)
) -> Data:
    """The mixture, in frames of `side` pixels; scenes are generated at `scene_side` pixels.

    min_share: objects that cover less of the frame are left out.
    objects: of a photo, at most.
    jitter: sizes of a photo in frames; above 1: what the model learns at a small side it then knows at the next one.
    """
    segments = CocoPanoptic(f"{DATA}/panoptic.json", f"{DATA}/panoptic", f"{DATA}/coco")
    instances = CocoInstances(f"{DATA}/tiny.json", f"{DATA}/tiny")
    regions = LabelMaps(f"{DATA}/regions/images", f"{DATA}/regions/maps", ignore=(0,))
    photos = Mix(((segments, 26.0), (instances, 12.0), (Folder(f"{DATA}/photos"), 27.0)))
    scenes = SceneSource(scene_side, count=1_000_000, photos=photos)
    least = int(min_share * side * side)
    frames = PromptableFrames(side, instances=objects, jitter=jitter, flip=True, min_area=least)
    return Data(Mix(((scenes, 4.0), (regions, 4.0), (segments, 1.4), (instances, 0.6))), frames, workers=1)


def method(rounds: int) -> Promptable:
    clicks = Clicks(rounds=rounds, quiet_rounds=0)
    return Promptable(Sam.mini(), clicks, focal_alpha=FOCAL_ALPHA, pooled_weight=1.0, remat=False)


def config() -> Run:
    return Run(
        name="sam_mini_64",
        method=method(rounds=3),
        data=data(64, 96, 0.004),
        steps=2000,
        global_batch=32,
        optim=Optim(
            lr=1e-3,
            warmup=200,
            final=0.2,
            b2=0.98,
            weight_decay=0.05,
            no_decay=(".*pos_embed", ".*rel_pos_[hw]"),
            clip_norm=1.0,
            muon=MATRICES,
        ),
        checkpoint=CheckpointSpec(every=250),
        log=LogSpec(every=25),
    )
