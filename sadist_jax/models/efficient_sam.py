"""EfficientSAM (Xiong et al. 2023, arXiv 2312.00863): Ti and S as released, B as in the paper, a mini for CPUs.

It looks like SAM and differs in many details; each is documented where it is made: `fill_slots`, `TwoWay`,
`Upscale`; there are no windows, no relative positions, no mask prompts, no negative clicks (label 0 adds nothing).
"""

import dataclasses
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp

from sadist_jax.models.mask_decoder import MULTI, SINGLE, DecoderInputs, MaskDecoder, Upscale
from sadist_jax.models.prompts import BOX_BOTTOM_RIGHT, BOX_TOP_LEFT, EMPTY, FOREGROUND, NOT_A_POINT, Prompts
from sadist_jax.models.two_way import TwoWay
from sadist_jax.models.vit import Vit
from sadist_jax.nn import fourier, layers, table
from sadist_jax.nn.neck import neck, neck_table
from sadist_jax.nn.table import Leaf, Table
from sadist_jax.ops.pixels import normalize
from sadist_jax.ops.precision import widen
from sadist_jax.typing import Array, Bool, Float, Int, Key, Params

SLOTS = 6  # released decoder_max_num_input_points
INVALID = -1.0  # coordinates of an empty slot


def decoder_of(dim: int, mlp_dim: int, iou_head_hidden_dim: int) -> MaskDecoder:
    """The mask decoder with EfficientSAM's differences."""
    two_way = TwoWay(
        dim=dim, mlp_dim=mlp_dim, mlp_names=("layers.0.0", "fc"), activation=layers.gelu, first_residual=True,
        positions_stay=True,
    )  # fmt: skip
    parts = "final_output_upscaling_layers"
    upscale = Upscale(dim, (f"{parts}.0.0", f"{parts}.0.1", f"{parts}.1.0"), whole_map_norm=True)
    return MaskDecoder(two_way, upscale, ("layers.0.0", "layers.1.0", "fc"), iou_head_hidden_dim)


@dataclasses.dataclass(frozen=True)
class PointEncoder:
    """Clicks and box corners -> tokens. Four embeddings: invalid, point, box top-left, box bottom-right."""

    dim: int = 256

    def table(self) -> Table:
        token = {"weight": Leaf((1, self.dim), jax.nn.initializers.normal(1.0))}
        names = ("invalid_points", "point_embeddings", "bbox_top_left_embeddings", "bbox_bottom_right_embeddings")
        return {"pe_layer": fourier.fourier_table(self.dim)} | dict.fromkeys(names, token)

    def points(
        self, params: Params, points: Float[Array, "*b n 2"], labels: Int[Array, "*b n"], frame: tuple[int, int]
    ) -> tuple[Float[Array, "*b n c"], Bool[Array, "*b n"]]:
        """Slots -> (tokens, which are there). Label 0 gets its position and nothing else; label -1 keeps its position.

        Negative coordinates become -1, as released.
        """
        tokens = fourier.encode_pixels(params["pe_layer"], jnp.where(points < 0, INVALID, points), frame)
        kinds = {
            NOT_A_POINT: "invalid_points",
            FOREGROUND: "point_embeddings",
            BOX_TOP_LEFT: "bbox_top_left_embeddings",
            BOX_BOTTOM_RIGHT: "bbox_bottom_right_embeddings",
        }
        for label, name in kinds.items():
            tokens = tokens + jnp.where((labels == label)[..., None], params[name]["weight"][0], 0)
        return tokens, labels != EMPTY


@dataclasses.dataclass(frozen=True)
class EfficientSam:
    """Plain ViT with a neck, point encoder and mask decoder; parameters carry the released names.

    image_size: side in pixels of the square input; that of the encoder is the one its position table is made for.
    slots: the released model fills every prompt up to six points with invalid ones, which take part in attention,
      and drops points beyond six. 0 masks empty slots instead, with any number of points, as SAM is trained here.
    """

    image_encoder: Vit = Vit()
    prompt_encoder: PointEncoder = PointEncoder()
    mask_decoder: MaskDecoder = dataclasses.field(default_factory=lambda: decoder_of(256, 2048, 256))
    image_size: int = 1024
    slots: int = SLOTS

    fit: ClassVar[Literal["pad", "stretch"]] = (
        "stretch"  # how an image becomes the square input: the aspect ratio is not kept
    )
    takes_masks: ClassVar[bool] = False  # as prompts
    single_mask_trained: ClassVar[bool] = False  # mask token 0

    @classmethod
    def ti(cls, **encoder) -> "EfficientSam":
        return cls(Vit.ti(**encoder))

    @classmethod
    def s(cls, **encoder) -> "EfficientSam":
        return cls(Vit.s(**encoder))

    @classmethod
    def b(cls, **encoder) -> "EfficientSam":
        """Pretrained in the paper (SAMI-B), never released."""
        return cls(Vit.b(**encoder))

    @classmethod
    def mini(cls, **encoder) -> "EfficientSam":
        """256 px input, patch 8, so masks come at 128 px."""
        return cls(Vit.mini(**encoder), PointEncoder(128), decoder_of(128, 512, 128), image_size=256)

    def is_mask(self, logits: Array) -> Array:
        """Logits -> bool, as released: >= 0."""
        return logits >= 0

    def table(self) -> Table:
        return {
            "image_encoder": self.image_encoder.table()
            | {"neck": neck_table(self.image_encoder.dim, self.mask_decoder.dim)},
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
        """Image embedding, at least float32. image: (b, H, W, 3) RGB, 0..255; size: as for Sam, None when stretched."""
        x, _ = self.image_encoder.apply(params["image_encoder"], normalize(image, size))
        return widen(neck(params["image_encoder"]["neck"], x))

    def decode(
        self, params: Params, embedding: Float[Array, "b h w c"], prompts: Prompts,
        tokens: tuple[int, ...] = (*SINGLE, *MULTI),
    ) -> tuple[Float[Array, "b p m 4h 4w"], Float[Array, "b p m"]]:  # fmt: skip
        """Mask logits (mask is >= 0) and predicted IoU of the chosen mask tokens (0 is untrained as released)."""
        return self.mask_decoder.apply(params["mask_decoder"], *self.prompted(params, embedding, prompts), tokens)

    def prompted(self, params: Params, embedding: Float[Array, "b h w c"], prompts: Prompts) -> DecoderInputs:
        """What the mask decoder takes, after its parameters."""
        if prompts.masks is not None:
            raise ValueError("EfficientSAM takes no mask prompts")
        _, rows, cols, _ = embedding.shape
        frame = (rows * self.image_encoder.patch, cols * self.image_encoder.patch)
        prompts = fill_slots(prompts, self.slots) if self.slots else prompts
        encoder = params["prompt_encoder"]
        sparse, where = self.prompt_encoder.points(encoder, prompts.points, prompts.labels, frame)
        positions = fourier.encode_grid(encoder["pe_layer"], (rows, cols))
        image = embedding[:, None].astype(self.image_encoder.dtype)
        return image, positions, sparse, where


def fill_slots(prompts: Prompts, slots: int) -> Prompts:
    """Move the points to the front, cut or fill up to `slots`; what is empty becomes the invalid point (-1, -1)."""
    order = jnp.argsort(prompts.labels == EMPTY, axis=-1, stable=True)[..., :slots]
    points = jnp.take_along_axis(prompts.points, order[..., None], -2)
    labels = jnp.take_along_axis(prompts.labels, order, -1)
    short = [(0, 0)] * (labels.ndim - 1) + [(0, max(0, slots - labels.shape[-1]))]
    labels = jnp.pad(labels, short, constant_values=EMPTY)
    points = jnp.pad(points, [*short, (0, 0)])
    empty = labels == EMPTY
    return Prompts(jnp.where(empty[..., None], INVALID, points), jnp.where(empty, NOT_A_POINT, labels))
