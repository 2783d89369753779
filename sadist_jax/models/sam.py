"""Segment Anything (Kirillov et al. 2023): ViT-B, L and H as released, MobileSAM, and a mini version for CPUs."""

import dataclasses
from typing import Any, ClassVar, Literal

import jax.numpy as jnp

from sadist_jax.models.mask_decoder import MULTI, SINGLE, DecoderInputs, MaskDecoder, Upscale
from sadist_jax.models.prompt_encoder import PromptEncoder, add_padding_point
from sadist_jax.models.prompts import Prompts
from sadist_jax.models.tiny_vit import TinyVit
from sadist_jax.models.two_way import TwoWay
from sadist_jax.models.vit_det import VitDet
from sadist_jax.nn import fourier, table
from sadist_jax.nn.table import Table
from sadist_jax.ops.pixels import normalize
from sadist_jax.typing import Array, Float, Int, Key, Params


@dataclasses.dataclass(frozen=True)
class Sam:
    """Image encoder, prompt encoder and mask decoder; parameters carry the names of the released checkpoints.

    Example:
      >>> import jax
      >>> sam = Sam.mini()
      >>> params = sam.init(jax.random.key(0))
      >>> image = jnp.zeros((1, 256, 256, 3), jnp.uint8)
      >>> click = Prompts(jnp.array([[[[60.0, 80.0]]]]), jnp.array([[[1]]]))
      >>> logits, aux = sam.apply(params, image, click)
      >>> logits.shape, aux["iou"].shape
      ((1, 1, 4, 128, 128), (1, 1, 4))
    """

    image_encoder: VitDet | TinyVit = VitDet()
    prompt_encoder: PromptEncoder = PromptEncoder()
    mask_decoder: MaskDecoder = MaskDecoder()

    fit: ClassVar[Literal["pad", "stretch"]] = (
        "pad"  # how an image becomes the square input: longest side resized, then padded
    )
    takes_masks: ClassVar[bool] = True  # as prompts
    single_mask_trained: ClassVar[bool] = True  # mask token 0

    @classmethod
    def vit_b(cls, **encoder: Any) -> "Sam":
        return cls(VitDet(**encoder))

    @classmethod
    def vit_l(cls, **encoder: Any) -> "Sam":
        return cls(VitDet(dim=1024, depth=24, heads=16, global_blocks=(5, 11, 17, 23), **encoder))

    @classmethod
    def vit_h(cls, **encoder: Any) -> "Sam":
        return cls(VitDet(dim=1280, depth=32, heads=16, global_blocks=(7, 15, 23, 31), **encoder))

    @classmethod
    def mobile(cls, **encoder: Any) -> "Sam":
        """MobileSAM (Zhang et al. 2023)."""
        return cls(TinyVit(**encoder))

    @classmethod
    def mini(cls, **encoder: Any) -> "Sam":
        """256 px input, patch 8, so masks come at 128 px. The official classes load it, built with these sizes."""
        sizes = VitDet(dim=192, depth=6, heads=3, global_blocks=(2, 5), window=8, patch=8, image_size=256, out_dim=128)
        decoder = MaskDecoder(TwoWay(dim=128, mlp_dim=512), Upscale(dim=128), iou_head_hidden_dim=128)
        return cls(dataclasses.replace(sizes, **encoder), PromptEncoder(dim=128), decoder)

    @property
    def image_size(self) -> int:
        """Side in pixels of the square input that the checkpoint is made for."""
        return self.image_encoder.image_size

    def is_mask(self, logits: Array) -> Array:
        """Logits -> bool, as released: > 0."""
        return logits > 0

    def table(self) -> Table:
        return {
            "image_encoder": self.image_encoder.table(),
            "prompt_encoder": self.prompt_encoder.table(),
            "mask_decoder": self.mask_decoder.table(),
        }

    def init(self, key: Key) -> Params:
        return table.init(self.table(), key)

    def apply(
        self, params: Params, image: Array, prompts: Prompts, *, size: Int[Array, "b 2"] | None = None
    ) -> tuple[Float[Array, "b p 4 H W"], dict[str, Array]]:
        """`encode` and `decode` in one: mask logits of all four mask tokens; aux has `embedding` and `iou`."""
        embedding = self.encode(params, image, size)
        logits, iou = self.decode(params, embedding, prompts)
        return logits, {"embedding": embedding, "iou": iou}

    def encode(self, params: Params, image: Array, size: Int[Array, "b 2"] | None = None) -> Float[Array, "b h w c"]:
        """Image embedding, at least float32.

        Args:
          image: (b, H, W, 3) RGB, 0..255, uint8 or float, H and W multiples of the patch.
          size: (height, width) of the content of each padded image; None: the images fill the frame.
        """
        return self.image_encoder.apply(params["image_encoder"], normalize(image, size))[0]

    def decode(
        self, params: Params, embedding: Float[Array, "b h w c"], prompts: Prompts,
        tokens: tuple[int, ...] = (*SINGLE, *MULTI),
    ) -> tuple[Float[Array, "b p m 4h 4w"], Float[Array, "b p m"]]:  # fmt: skip
        """Mask logits (mask is > 0) and predicted IoU (unbounded) of the chosen mask tokens."""
        return self.mask_decoder.apply(params["mask_decoder"], *self.prompted(params, embedding, prompts), tokens)

    def prompted(self, params: Params, embedding: Float[Array, "b h w c"], prompts: Prompts) -> DecoderInputs:
        """What the mask decoder takes, after its parameters."""
        _, rows, cols, _ = embedding.shape
        frame = (rows * self.image_encoder.patch, cols * self.image_encoder.patch)
        prompts, encoder = add_padding_point(prompts), params["prompt_encoder"]
        sparse, where = self.prompt_encoder.points(encoder, prompts.points, prompts.labels, frame)
        positions = fourier.encode_grid(encoder["pe_layer"], (rows, cols))
        dense = self.prompt_encoder.no_mask(encoder)
        if prompts.masks is not None:
            no_mask, dense = dense, self.prompt_encoder.masks(encoder, prompts.masks)
            if prompts.has_mask is not None:
                dense = jnp.where(prompts.has_mask[..., None, None, None], dense, no_mask)
        image = (embedding[:, None] + dense).astype(self.image_encoder.dtype)
        return image, positions, sparse, where
