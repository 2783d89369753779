"""EfficientSAM in miniature: the SAMI encoder of configs/sami_mini.py learns to segment generated scenes on clicks.

Paper: Xiong et al. 2023, "EfficientSAM", arXiv 2312.00863, sec. 4.1; training as in Kirillov et al. 2023, app. A.
Command: sadist train configs/sami_mini.py, then sadist train configs/efficient_sam_mini.py
Hardware: two CPU cores; metrics.jsonl has the speed.
Number: mean IoU at the first and at the second answer in training, `iou_first` and `iou_last` in metrics.jsonl: 0.46
  and 0.53 after 500 steps on the photos of benchmarks/sami_vs_mae.py; not measured on the data below.

Ours: 2 rounds, three masks in every round; frames of 128 px, half of the model's own side, for speed; focal alpha 0.6;
random scales and flips (the paper: no augmentation), padded frames, where the predictor of an EfficientSAM stretches;
cosine schedule (the paper: linear), learning rate 1e-3 (4e-4), gradient norm clipped to 1. `sadist demo` makes 80 of
the steps. Prompt encoder and mask decoder start from sam_mini's, which have the same sizes under other names;
EfficientSAM's activations and norms differ, so they must be trained all the same. `config(pretrained=None)` leaves SAMI
out.
"""

import re

from sam_mini_64 import FOCAL_ALPHA
from sami_mini import scenes

from sadist_jax.data.promptable_frames import PromptableFrames
from sadist_jax.methods.clicks import Clicks
from sadist_jax.methods.promptable import Promptable
from sadist_jax.models.efficient_sam import EfficientSam
from sadist_jax.train.checkpoint import CheckpointSpec
from sadist_jax.train.log import LogSpec
from sadist_jax.train.optim import Optim
from sadist_jax.train.run import Data, Run
from sadist_jax.train.start import Start

SAME = (
    r"image_encoder\.neck\.[123]|prompt_encoder\.pe_layer|mask_decoder\.(?:iou_token|mask_tokens|transformer(?!.*mlp))"
)


def decoder_of_sam(source: str) -> tuple[Start, ...]:
    """Prompt encoder, mask decoder and, but for its first layer, neck of a SAM with the same sizes."""
    names = {"invalid_points": "not_a_point_embed", "point_embeddings": "point_embeddings.1"}
    names |= {"bbox_top_left_embeddings": "point_embeddings.2", "bbox_bottom_right_embeddings": "point_embeddings.3"}
    names = {f"prompt_encoder.{ours}": f"prompt_encoder.{theirs}" for ours, theirs in names.items()}
    for mlp in ("mask_decoder.transformer.layers.0.mlp", "mask_decoder.transformer.layers.1.mlp"):
        names |= {f"{mlp}.layers.0.0": f"{mlp}.lin1", f"{mlp}.fc": f"{mlp}.lin2"}
    for mlp in ("iou_prediction_head", *(f"output_hypernetworks_mlps.{i}" for i in range(4))):
        layers = {"layers.0.0": "layers.0", "layers.1.0": "layers.1", "fc": "layers.2"}
        names |= {f"mask_decoder.{mlp}.{ours}": f"mask_decoder.{mlp}.{theirs}" for ours, theirs in layers.items()}
    for ours, theirs in {"0.0": "0", "0.1": "1", "1.0": "3"}.items():
        names[f"mask_decoder.final_output_upscaling_layers.{ours}"] = f"mask_decoder.output_upscaling.{theirs}"
    renamed = (Start(rf"{re.escape(ours)}\.(.*)", source, f"{theirs}.") for ours, theirs in names.items())
    return Start(rf"(?:{SAME})\..*", source), *renamed


def config(pretrained: str | None = "runs/sami_mini") -> Run:
    """`pretrained`: directory of the SAMI run that the encoder starts from; None: the encoder starts from scratch."""
    teacher = "sam_mini"
    encoder = () if pretrained is None else (Start(r"image_encoder\.((?!neck).*)", pretrained, "student."),)
    return Run(
        name="efficient_sam_mini",
        method=Promptable(
            EfficientSam.mini(),
            Clicks(rounds=2, quiet_rounds=0),
            multimask="always",
            focal_alpha=FOCAL_ALPHA,
            remat=False,
        ),
        data=Data(scenes(), PromptableFrames(128, instances=4, jitter=(1.0, 2.0), flip=True)),
        steps=1000,
        global_batch=16,
        optim=Optim(lr=1e-3, warmup=50, weight_decay=0.1, no_decay=(".*pos_embed",), clip_norm=1.0),
        starts=(*decoder_of_sam(teacher), *encoder),
        checkpoint=CheckpointSpec(every=250),
        log=LogSpec(every=25),
    )
