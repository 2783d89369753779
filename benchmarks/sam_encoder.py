"""SAM's image encoder against the official code, eager and compiled, transformers' and keras-hub's.

Preprocessing is included, but for keras-hub, whose users do it themselves.
"""

from pathlib import Path

from benchmarks.case import Case, Contender, Op, draw, photo
from benchmarks.image_encoder import ours


def cases(*, tiny: bool = False) -> list[Case]:
    size, title = ("mini", "SAM mini") if tiny else ("vit_b", "SAM ViT-B")
    options = {"size": size, "batch": 1}
    return [Case("sam_encoder", f"{title} image encoder, batch 1", contenders(), prepare, options)]


def contenders() -> tuple[Contender, ...]:
    return (
        Contender("segment-anything, eager", official, torch=True),
        Contender("segment-anything, torch.compile", compiled, torch=True),
        Contender("transformers, scaled_dot_product_attention", transformers, torch=True),
        Contender("keras-hub on JAX, jitted", keras_hub, torch=True),
        Contender("sadist_jax", ours),
    )


def prepare(folder: Path, size: str, batch: int) -> None:
    """weights.pth with the official names, and transformers/ with the same weights."""
    from conversion import hugging_face
    from sadist_jax import pretrained
    from sadist_jax.models.sam import Sam

    draw(folder, getattr(Sam, size)().table())
    sam, params = pretrained.load(folder / "weights.pth")
    hugging_face.write(folder / "transformers", sam, params)


def compiled(folder: Path, size: str, batch: int) -> Op:
    return official(folder, size, batch, compile=True)


def transformers(folder: Path, size: str, batch: int) -> Op:
    import torch
    from transformers import SamModel

    from benchmarks.torch_vit import normalize

    model = SamModel.from_pretrained(folder / "transformers", attn_implementation="sdpa").eval()
    image = torch.from_numpy(photo(model.config.vision_config.image_size, batch))

    @torch.inference_mode()
    def run() -> torch.Tensor:
        return model.get_image_embeddings(normalize(image))

    return Op(run, lambda: {"embedding": run().permute(0, 2, 3, 1).numpy()})


def keras_hub(folder: Path, size: str, batch: int) -> Op:
    import jax
    import numpy as np

    from conversion import keras_hub
    from sadist_jax import pretrained

    sam, params = pretrained.load(folder / "weights.pth")
    segmenter = keras_hub.build(sam)
    keras_hub.fill(segmenter.backbone, params)
    encoder = segmenter.backbone.image_encoder
    weights = [v.value for v in encoder.trainable_variables], [v.value for v in encoder.non_trainable_variables]
    image = jax.device_put(photo(sam.image_size, batch) / np.float32(255))
    encode = jax.jit(lambda moving, still, image: encoder.stateless_call(moving, still, image)[0])

    def run() -> jax.Array:
        return encode(*weights, image).block_until_ready()

    return Op(run, lambda: {"embedding": np.asarray(run())})


def official(folder: Path, size: str, batch: int, *, compile: bool = False) -> Op:
    import torch

    model = build_official(folder, size)
    encode = torch.compile(model.image_encoder) if compile else model.image_encoder
    image = torch.from_numpy(photo(model.image_encoder.img_size, batch)).permute(0, 3, 1, 2).contiguous()

    @torch.inference_mode()
    def run() -> torch.Tensor:
        return encode(model.preprocess(image))

    return Op(run, lambda: {"embedding": run().permute(0, 2, 3, 1).numpy()})


def build_official(folder: Path, size: str):
    """The official model with the weights of `prepare`. A released size is built without importing JAX."""
    import torch

    import tests.parity.conftest  # noqa: F401  stands in for torchvision
    from segment_anything import sam_model_registry  # isort: skip

    path = folder / "weights.pth"
    if size in sam_model_registry:
        return sam_model_registry[size](checkpoint=str(path)).eval()
    from sadist_jax.models.sam import Sam
    from tests.parity import official

    model = official.build(getattr(Sam, size)())
    model.load_state_dict(torch.load(path, weights_only=True))
    return model
