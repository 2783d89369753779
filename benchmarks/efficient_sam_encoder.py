"""EfficientSAM's image encoder against a PyTorch module of the same structure and weights (benchmarks/torch_vit.py).

The released code cannot be installed from the package index. Its attention is the plain one (whole score matrix); the
row with F.scaled_dot_product_attention is what a user of PyTorch could have today.
"""

from pathlib import Path

from benchmarks.case import Case, Contender, Op, draw, photo
from benchmarks.image_encoder import ours

SIDES = {"ti": 1024, "mini": 256}


def cases(*, tiny: bool = False) -> list[Case]:
    size = "mini" if tiny else "ti"
    title = f"EfficientSAM-{size.capitalize()} image encoder, {SIDES[size]} px, batch 1"
    return [Case("efficient_sam_encoder", title, contenders(), prepare, {"size": size, "batch": 1})]


def contenders() -> tuple[Contender, ...]:
    return (
        Contender("torch, eager, plain attention", torch_plain, torch=True),
        Contender("torch, eager, scaled_dot_product_attention", torch_sdpa, torch=True),
        Contender("torch.compile, scaled_dot_product_attention", torch_compiled, torch=True),
        Contender("sadist_jax", ours),
    )


def prepare(folder: Path, size: str, batch: int) -> None:
    from sadist_jax.models.efficient_sam import EfficientSam

    draw(folder, getattr(EfficientSam, size)().table())


def torch_plain(folder: Path, size: str, batch: int) -> Op:
    return _torch(folder, size, batch, "plain")


def torch_sdpa(folder: Path, size: str, batch: int) -> Op:
    return _torch(folder, size, batch, "sdpa")


def torch_compiled(folder: Path, size: str, batch: int) -> Op:
    return _torch(folder, size, batch, "sdpa", compile=True)


def _torch(folder: Path, size: str, batch: int, attention: str, *, compile: bool = False) -> Op:
    import torch

    from benchmarks.torch_vit import ATTENTION, SIZES, ImageEncoder

    model = ImageEncoder(*SIZES[size], ATTENTION[attention], 256 if size == "ti" else 128).eval()
    prefix, state = "image_encoder.", torch.load(folder / "weights.pth", weights_only=True)
    model.load_state_dict({n.removeprefix(prefix): value for n, value in state.items() if n.startswith(prefix)})
    encode = torch.compile(model) if compile else model
    image = torch.from_numpy(photo(SIDES[size], batch))

    @torch.inference_mode()
    def run() -> torch.Tensor:
        return encode(image)

    return Op(run, lambda: {"embedding": run().permute(0, 2, 3, 1).numpy()})
