"""MobileSAM in PyTorch, from parts that can be installed: timm's TinyViT, and the official SAM's neck and decoder.

mobile_sam is on no package index. Its encoder is TinyViT (Wu et al. 2022), of which timm has an implementation of its
own, with a stride of 1 where the last stage begins, and with SAM's neck.
"""

import re
from collections.abc import Mapping

import numpy as np
import torch
from segment_anything import modeling
from segment_anything.modeling.common import LayerNorm2d
from timm.models.tiny_vit import TinyVit as TimmTinyVit
from torch import nn

from sadist_jax.models.tiny_vit import TinyVit

NAMES = (  # mobile_sam's: timm's
    (r"patch_embed\.seq\.0", "patch_embed.conv1"),
    (r"patch_embed\.seq\.2", "patch_embed.conv2"),
    (r"layers\.(\d)\.downsample", lambda match: f"stages.{int(match[1]) + 1}.downsample"),
    (r"layers", "stages"),
    (r"norm_head", "head.norm"),
    (r"head(?=\.(weight|bias))", "head.fc"),
    (r"(.*)\.c\.weight", r"\1.conv.weight"),
)


class Encoder(nn.Module):
    """timm's TinyViT up to the last map, and SAM's neck."""

    def __init__(self, sizes: TinyVit):
        super().__init__()
        stages = sizes.stages
        self.body = TimmTinyVit(
            embed_dims=tuple(stage.dim for stage in stages),
            depths=tuple(stage.depth for stage in stages),
            num_heads=tuple(max(stage.heads, 1) for stage in stages),
            window_sizes=tuple(max(stage.window, 1) for stage in stages),
        )
        for stage, stride in zip(self.body.stages[1:], sizes.strides, strict=True):
            stage.downsample.conv2.conv.stride = (stride, stride)
        self.neck = nn.Sequential(
            nn.Conv2d(stages[-1].dim, sizes.out_dim, 1, bias=False),
            LayerNorm2d(sizes.out_dim),
            nn.Conv2d(sizes.out_dim, sizes.out_dim, 3, padding=1, bias=False),
            LayerNorm2d(sizes.out_dim),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.neck(self.body.forward_features(x))


def timm_name(name: str) -> str:
    """Name of a parameter below mobile_sam's image_encoder -> its name in timm."""
    for pattern, replacement in NAMES:
        name = re.sub(rf"^(?:{pattern})", replacement, name)
    return name


def build(sam, state: Mapping[str, np.ndarray]) -> modeling.Sam:
    """The model of that state dict of mobile_sam's names, ready to be asked."""
    encoder = Encoder(sam.image_encoder)
    grid, side = (sam.image_encoder.grid,) * 2, (sam.image_encoder.image_size,) * 2
    decoder = modeling.MaskDecoder(
        transformer_dim=256, transformer=modeling.TwoWayTransformer(2, 256, 8, 2048), iou_head_hidden_dim=256
    )
    model = modeling.Sam(encoder, modeling.PromptEncoder(256, grid, side, mask_in_chans=16), decoder)
    encoder.img_size = side[0]  # what the official preprocessing asks for
    renamed = {}
    for name, value in state.items():
        inside = name.removeprefix("image_encoder.")
        if inside != name and not inside.startswith("neck."):
            name = f"image_encoder.body.{timm_name(inside)}"
        renamed[name] = torch.from_numpy(value)
    model.load_state_dict(renamed, strict=True)
    return model.eval()
