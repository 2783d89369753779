"""sam_mini, third of four stages: promptable training at its own 256 px.

Paper: Kirillov et al. 2023, "Segment Anything", app. A (losses, prompts), at a size for CPUs.
Command: sadist train configs/sam_mini_64.py; the same with sam_mini_128.py and sam_mini_256.py
Hardware and number: see sadist_jax/weights/sam_mini.md, the card of the shipped weights. Next: configs/sam_mini.py.
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
        name="sam_mini_256",
        method=method(rounds=3),
        data=data(256, 256, 0.0006, objects=4, jitter=(0.6, 1.6)),
        steps=1500,
        global_batch=8,
        seed=2,
        optim=dataclasses.replace(first.optim, lr=5e-4, warmup=50, final=0.0),
        starts=(Start(".*", "runs/sam_mini_128"),),
    )
