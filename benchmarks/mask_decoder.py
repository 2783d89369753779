"""SAM's mask decoder with its prompt encoder, from an embedding to the three masks of each prompt (one click each)."""

from pathlib import Path

import numpy as np

from benchmarks.case import Case, Contender, Op
from benchmarks.sam_encoder import build_official
from benchmarks.sam_encoder import prepare as draw_weights

REPEAT = 10  # one prompt takes a few hundredths of a second


def cases(*, tiny: bool = False) -> list[Case]:
    size, title = ("mini", "SAM mini") if tiny else ("vit_b", "SAM")

    def case(prompts: int) -> Case:
        name = f"{title} mask decoder, {prompts} prompt{'s' if prompts > 1 else ''}, prompt encoder included"
        options, repeat = {"size": size, "prompts": prompts}, REPEAT if prompts == 1 else 1
        return Case(f"mask_decoder_{prompts}", name, contenders(), prepare, options, repeat)

    return [case(1), case(64)]


def contenders() -> tuple[Contender, ...]:
    return (
        Contender("segment-anything, eager", official, torch=True),
        Contender("segment-anything, decoder by torch.compile", compiled, torch=True),
        Contender("transformers", transformers, torch=True),
        Contender("sadist_jax", ours),
    )


def prepare(folder: Path, size: str, prompts: int) -> None:
    draw_weights(folder, size, batch=1)


def inputs(shape: tuple[int, int, int], side: int, prompts: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Embedding (1, h, w, c) as a norm leaves it; clicks (prompts, 1, 2) in xy pixels of the frame; their labels."""
    rng = np.random.default_rng(0)
    embedding = rng.standard_normal((1, *shape), np.float32)
    points = rng.uniform(0, side, (prompts, 1, 2)).astype(np.float32)
    return embedding, points, np.ones((prompts, 1), np.int32)


def compiled(folder: Path, size: str, prompts: int) -> Op:
    return official(folder, size, prompts, compile=True)


def official(folder: Path, size: str, prompts: int, *, compile: bool = False) -> Op:
    import torch

    model = build_official(folder, size)
    encoder, decoder = model.prompt_encoder, model.mask_decoder
    decode = torch.compile(decoder) if compile else decoder
    del model.image_encoder
    shape = (*encoder.image_embedding_size, encoder.embed_dim)
    embedding, points, labels = map(torch.from_numpy, inputs(shape, encoder.input_image_size[0], prompts))
    embedding = embedding.permute(0, 3, 1, 2).contiguous()

    @torch.inference_mode()
    def run() -> tuple[torch.Tensor, torch.Tensor]:
        sparse, dense = encoder(points=(points, labels), boxes=None, masks=None)
        return decode(embedding, encoder.get_dense_pe(), sparse, dense, multimask_output=True)

    return Op(run, lambda: dict(zip(("logits", "iou"), (x.numpy() for x in run()), strict=True)))


def transformers(folder: Path, size: str, prompts: int) -> Op:
    import torch
    from transformers import SamModel

    model = SamModel.from_pretrained(folder / "transformers").eval()
    sizes = model.config.vision_config
    grid = sizes.image_size // sizes.patch_size
    embedding, points, labels = inputs((grid, grid, sizes.output_channels), sizes.image_size, prompts)
    embedding = torch.from_numpy(embedding).permute(0, 3, 1, 2).contiguous()
    click = {"input_points": torch.from_numpy(points[None]), "input_labels": torch.from_numpy(labels[None])}

    @torch.inference_mode()
    def run() -> tuple[torch.Tensor, torch.Tensor]:
        found = model(image_embeddings=embedding, **click, multimask_output=True)
        return found.pred_masks[0], found.iou_scores[0]

    return Op(run, lambda: dict(zip(("logits", "iou"), (x.numpy() for x in run()), strict=True)))


def ours(folder: Path, size: str, prompts: int) -> Op:
    import jax

    from sadist_jax import pretrained
    from sadist_jax.models.mask_decoder import MULTI
    from sadist_jax.models.prompts import Prompts
    from sadist_jax.models.sam import Sam

    model, params = pretrained.load(folder / "weights.pth")
    assert isinstance(model, Sam)
    params = jax.device_put({name: params[name] for name in ("prompt_encoder", "mask_decoder")})
    grid = model.image_encoder.grid
    embedding, points, labels = inputs((grid, grid, model.image_encoder.out_dim), model.image_size, prompts)
    embedding, click = jax.device_put(embedding), Prompts(*jax.device_put((points[None], labels[None])))
    decode = jax.jit(lambda *args: model.decode(*args, tokens=MULTI))

    def run() -> tuple[jax.Array, jax.Array]:
        return jax.block_until_ready(decode(params, embedding, click))

    return Op(run, lambda: dict(zip(("logits", "iou"), (np.asarray(x[0]) for x in run()), strict=True)))
