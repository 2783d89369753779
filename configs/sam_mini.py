"""sam_mini, last of four stages: many objects of a photo, one answer each. The mini teacher as we would train it anew.

Paper: Kirillov et al. 2023, "Segment Anything", app. A (losses, prompts), at a size for CPUs.
Command: sadist train configs/sam_mini_64.py; the same with sam_mini_128.py, sam_mini_256.py and sam_mini.py
Hardware and number: see sadist_jax/weights/sam_mini.md, the card of the shipped weights, which took more stages.

Ours: twelve objects share one pass of the encoder; four fifths of them start with a box, and hardly a shaken one, since
the masks that the stage before makes of small objects spill over the box. No pooled loss.
"""

import dataclasses

from sam_mini_64 import data
from sam_mini_256 import config as third_stage

from sadist_jax.methods.clicks import Clicks
from sadist_jax.train.run import Run
from sadist_jax.train.start import Start

CLICKS = Clicks(rounds=1, quiet_rounds=0, box_probability=0.8, box_noise=0.02)


def config() -> Run:
    third = third_stage()
    return dataclasses.replace(
        third,
        name="sam_mini",
        method=dataclasses.replace(third.method, pooled_weight=0.0, clicks=CLICKS),
        data=data(256, 256, 0.0003, objects=12, jitter=(0.6, 1.4)),
        steps=2200,
        seed=3,
        optim=dataclasses.replace(third.optim, lr=6e-4, warmup=10),
        starts=(Start(".*", "runs/sam_mini_256"),),
    )
