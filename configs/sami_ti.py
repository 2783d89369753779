"""SAMI pretraining of ViT-Ti on ImageNet-1K, with SAM ViT-H as teacher.

Paper: Xiong et al. 2023, "EfficientSAM", arXiv 2312.00863, sec. 3.2 and 4.1: 400 epochs, batch 4096, AdamW, lr 2.4e-3,
  betas 0.9 and 0.95, weight decay 0.05, 40 epochs of warm-up, cosine; mask ratio 0.75; decoder of 8 blocks of 512.
Command: sadist train configs/sami_ti.py --data.source.root imagenet/train --starts.0.source sam_vit_h_4b8939.pth
Hardware: 281 GFLOP an image, nearly all the teacher's (a formula, not a measurement): 144 EFLOP, 100 hours of one H100
  at 40 % of its peak; the paper used V100s and names no hours. The batch of 4096 is for a pod; on one
  GPU, --optim.accumulate 8 or more cuts it up and the step stays the same.
Number: fine-tuned on ImageNet-1K, the paper's ViT-Ti reaches 76.8 top-1 (MAE 75.2); not reproduced here yet.

The paper is silent on these, and this is what we chose: the teacher sees the student's 224 px crop (the text before its
eq. 1 feeds it the same N tokens; two other views: sami_ti:fixed224 and sami_ti:full1024, whose features can be computed
once, see configs/sami_ti_cached.py), for which its 64 x 64 positions are shrunk bicubically to 14 x 14 and its relative
positions linearly; `--method.teacher.side 1024` feeds it the enlarged crop instead, at its native size, and averages
the 64 x 64 features to 14 x 14; targets after the neck ('pre_neck' is the other reading) and not normalised; the
student's positions are fixed sine-cosine as in MAE; bfloat16, no clipping.
"""

from typing import Literal

from sadist_jax.data.folder import Folder
from sadist_jax.data.sami_crops import SamiCrops
from sadist_jax.data.sami_views import FixedCrops, FrameCrops
from sadist_jax.methods.sami import Sami
from sadist_jax.methods.teacher import FrameFeatures, SamFeatures
from sadist_jax.models.sam import Sam
from sadist_jax.models.vit import Vit
from sadist_jax.train.checkpoint import CheckpointSpec
from sadist_jax.train.optim import Optim
from sadist_jax.train.run import Data, Run
from sadist_jax.train.start import Start

EPOCHS, WARMUP_EPOCHS, IMAGES, BATCH = 400, 40, 1_281_167, 4096


View = Literal["crop224", "fixed224", "full1024"]


def run(name: str, student: Vit, teacher_view: View = "crop224") -> Run:
    """The recipe, which is the same for all sizes of student.

    teacher_view: the teacher sees the student's random crop; or always the same one, the middle of each image, and so
      does the student; or the whole image at 1024 px, whose features are then cropped as the student's image is.
    """
    encoder = Sam.vit_h(dtype="bfloat16").image_encoder
    teacher, crops = {
        "crop224": (SamFeatures(encoder), SamiCrops(224)),
        "fixed224": (SamFeatures(encoder), FixedCrops(224)),
        "full1024": (FrameFeatures(encoder), FrameCrops()),
    }[teacher_view]
    epoch = IMAGES / BATCH
    return Run(
        name=name,
        method=Sami.make(student, teacher),
        data=Data(Folder("imagenet/train"), crops, workers=16),
        steps=round(EPOCHS * epoch),
        global_batch=BATCH,
        optim=Optim(lr=2.4e-3, warmup=round(WARMUP_EPOCHS * epoch), b2=0.95, weight_decay=0.05),
        starts=(Start(r"teacher\.(.*)", "sam_vit_h_4b8939.pth"),),
        freeze=(r"student\.pos_embed",),
        checkpoint=CheckpointSpec(every=round(epoch)),
    )


def config(teacher_view: View = "crop224") -> Run:
    name = "sami_ti" if teacher_view == "crop224" else f"sami_ti_{teacher_view}"
    return run(name, Vit.ti(dtype="bfloat16"), teacher_view)
