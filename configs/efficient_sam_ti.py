"""EfficientSAM-Ti on SA-1B: the SAMI encoder of configs/sami_ti.py and a mask decoder, trained to segment on clicks.

Paper: Xiong et al. 2023, "EfficientSAM", arXiv 2312.00863, sec. 4.1: 5 epochs of SA-1B, batch 128, AdamW, lr 4e-4
  linear to 0, betas 0.9 and 0.999, weight decay 0.1, 1024 px, no augmentation; "following SAM" for the rest.
Command: sadist train configs/efficient_sam_ti.py --data.source.root sa1b --starts.0.source runs/sami_ti
Hardware: the paper used 64 A100 of 40 GB and names no hours.
Number: zero-shot COCO mIoU of the paper's EfficientSAM-Ti: box 75.7, 1 click 45.5, 3 clicks 67.2, as
  evals.promptable.PromptedMasks(placements=("inside",)) asks; not reproduced here yet.

The paper is silent on these, and this is what we chose: SAM's losses and error clicks, 5 rounds (a box and 4 clicks
fill the released six slots), three masks in every round, since the released token 0 is untrained; 32 masks an image;
images are stretched to the square, as the released code does; the decoder starts from scratch; gradients are clipped
at 1.0; 250 steps of warm-up; no decay of the positions. Error clicks on the background are ours too: the author says
that the released models were not trained with them (yformer/EfficientSAM, issues 17 and 64).
"""

from sadist_jax.data.promptable_frames import PromptableFrames
from sadist_jax.data.sa1b import Sa1b
from sadist_jax.methods.clicks import Clicks
from sadist_jax.methods.promptable import Promptable
from sadist_jax.models.efficient_sam import EfficientSam
from sadist_jax.train.checkpoint import CheckpointSpec
from sadist_jax.train.optim import Optim
from sadist_jax.train.run import Data, Run
from sadist_jax.train.start import Start

EPOCHS, IMAGES, BATCH = 5, 11_185_362, 128


def run(name: str, model: EfficientSam, pretrained: str) -> Run:
    """The recipe, which is the same for both sizes; `pretrained`: directory of the SAMI run."""
    return Run(
        name=name,
        method=Promptable(model, Clicks(rounds=5, quiet_rounds=0), multimask="always"),
        data=Data(Sa1b("sa1b"), PromptableFrames(1024, instances=32, fit="stretch"), workers=16),
        steps=round(EPOCHS * IMAGES / BATCH),
        global_batch=BATCH,
        optim=Optim(lr=4e-4, schedule="linear", warmup=250, weight_decay=0.1, no_decay=(".*pos_embed",), clip_norm=1.0),
        starts=(Start(r"image_encoder\.((?!neck).*)", pretrained, "student."),),
        checkpoint=CheckpointSpec(every=2000),
    )


def config() -> Run:
    return run("efficient_sam_ti", EfficientSam.ti(dtype="bfloat16", remat=True), "runs/sami_ti")
