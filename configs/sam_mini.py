"""sam_mini, last of three stages: promptable training at its own 256 px, makes the mini teacher that is shipped.

Paper: Kirillov et al. 2023, "Segment Anything", app. A (losses, prompts), at a size for CPUs.
Command: sadist train configs/sam_mini_64.py; sadist train configs/sam_mini_128.py; sadist train configs/sam_mini.py
Hardware and number: see sadist_jax/weights/sam_mini.md, the card of the shipped weights.
"""

import dataclasses

from sam_mini_64 import config as first_stage
from sam_mini_64 import data, method

from sadist_jax.train.run import Run
from sadist_jax.train.start import Start


def config() -> Run:
    first = first_stage()
    return dataclasses.replace(
        first,
        name="sam_mini",
        method=method(rounds=3),
        data=data(256, 256, 0.001),
        steps=1500,
        global_batch=8,
        seed=2,
        optim=dataclasses.replace(first.optim, lr=5e-4, warmup=50, final=0.0),
        starts=(Start(".*", "runs/sam_mini_128"),),
    )
