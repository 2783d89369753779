"""SAM's image encoder against the official code (pip segment-anything), eager; preprocessing included."""

from pathlib import Path

from benchmarks.case import Case, Contender, Op, draw, photo
from benchmarks.image_encoder import ours


def cases(*, tiny: bool = False) -> list[Case]:
    size, title = ("mini", "SAM mini") if tiny else ("vit_b", "SAM ViT-B")
    options = {"size": size, "batch": 1}
    return [Case("sam_encoder", f"{title} image encoder, batch 1", contenders(), prepare, options)]


def contenders() -> tuple[Contender, ...]:
    return Contender("segment-anything, eager", official, torch=True), Contender("sadist_jax", ours)


def prepare(folder: Path, size: str, batch: int) -> None:
    from sadist_jax.models.sam import Sam

    draw(folder, getattr(Sam, size)().table())


def official(folder: Path, size: str, batch: int) -> Op:
    import torch

    model = build_official(folder, size)
    image = torch.from_numpy(photo(model.image_encoder.img_size, batch)).permute(0, 3, 1, 2).contiguous()

    @torch.inference_mode()
    def run() -> torch.Tensor:
        return model.image_encoder(model.preprocess(image))

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
