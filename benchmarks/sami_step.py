"""One SAMI training step with the teacher's features given: ours as `sadist train` runs it, and eager PyTorch.

PyTorch's module has the same structure and starts from the same weights (benchmarks/torch_vit.py, attention by
F.scaled_dot_product_attention, its fused AdamW). Before the timing, both take two steps with the same tokens masked:
losses and gradient norm must agree, so forward, backward and update do. In the timing each draws its own tokens.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.case import Case, Contender, Op, draw, photo

LR, BETAS, DECAY, MASK_RATIO, TARGET_DIM = 1e-4, (0.9, 0.95), 0.05, 0.75, 256


def cases(*, tiny: bool = False) -> list[Case]:
    size, side = ("mini", 128) if tiny else ("ti", 224)

    def case(batch: int) -> Case:
        options = {"size": size, "batch": batch // 8 if tiny else batch}
        title = f"SAMI step, ViT-{size.capitalize()} student, {side} px, batch {options['batch']}, targets given"
        return Case(f"sami_step_{batch}", title, contenders(), prepare, options)

    return [case(8), case(32)]


def contenders() -> tuple[Contender, ...]:
    return (
        Contender("torch, eager, fused AdamW", eager, torch=True),
        Contender("torch.compile, fused AdamW", compiled, torch=True),
        Contender("sadist_jax", ours),
        Contender("sadist_jax, decoder computed again", ours_remat),
    )


def prepare(folder: Path, size: str, batch: int) -> None:
    draw(folder, make_method(size).table()["params"])


def targets(batch: int, tokens: int) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((batch, tokens, TARGET_DIM), np.float32)


def make_method(size: str):
    from sadist_jax.methods.sami import Sami
    from sadist_jax.methods.teacher import CachedFeatures
    from sadist_jax.models.sami_decoder import CrossDecoder
    from sadist_jax.models.vit import Vit

    student = getattr(Vit, size)()
    sizes = {"dim": 64, "depth": 2, "heads": 2} if size == "mini" else {}
    decoder = CrossDecoder(student.dim, TARGET_DIM, student.grid, **sizes)
    return Sami(student, decoder, CachedFeatures(TARGET_DIM), MASK_RATIO)


def agreed_order(xp, index, tokens: int):
    """A permutation of the tokens for each sample, the same in NumPy, JAX and torch: 5 divides no number of tokens."""
    return (5 * xp.arange(tokens) + index[:, None]) % tokens


def ours_remat(folder: Path, size: str, batch: int) -> Op:
    return ours(folder, size, batch, remat=True)


def ours(folder: Path, size: str, batch: int, *, remat: bool = False) -> Op:
    import jax.numpy as jnp

    from sadist_jax import tree
    from sadist_jax.methods.sami import Sami
    from sadist_jax.nn import table
    from sadist_jax.weights.pth import read_pth

    class Agreed(Sami):
        def shuffle(self, key, index):
            return agreed_order(jnp, index, self.student.grid**2)

    method = make_method(size)
    method = dataclasses.replace(method, decoder=dataclasses.replace(method.decoder, remat=remat))
    values = tree.flatten(table.from_reference(method.table()["params"], read_pth(folder / "weights.pth")))

    grid = method.student.grid
    rows = {"image": photo(method.student.image_size, batch)}
    rows["target"] = targets(batch, grid**2).reshape(batch, grid, grid, TARGET_DIM)

    def outputs() -> dict[str, np.ndarray]:
        agreed = Agreed(**{field.name: getattr(method, field.name) for field in dataclasses.fields(method)})
        step = training(agreed, values, rows)
        return named([step() for _ in range(2)])

    return Op(training(method, values, rows), outputs)


def training(method, values: dict[str, np.ndarray], rows: dict[str, np.ndarray]) -> Callable[[], dict[str, np.ndarray]]:
    """A run of the package, laid out on the device -> its next step on these rows, which gives the step's metrics."""
    import jax

    from sadist_jax.parallel.mesh import MeshSpec
    from sadist_jax.parallel.shard import ShardSpec
    from sadist_jax.train import plan
    from sadist_jax.train.optim import Optim

    batch = len(rows["image"])
    optim = Optim(lr=LR, schedule="constant", b1=BETAS[0], b2=BETAS[1], weight_decay=DECAY)
    layout = {"mesh": MeshSpec(), "shard_spec": ShardSpec()}
    run = plan.make(method, steps=10**6, global_batch=batch, optim=optim, **layout)
    state, frozen = run.create(values), run.create_frozen(values)
    rest = {"index": np.arange(batch, dtype=np.int32), "weight": np.ones(batch, np.float32)}
    placed = jax.device_put(rows | rest, run.rows)

    def step() -> dict[str, np.ndarray]:
        nonlocal state
        state, metrics = run.step(state, frozen, placed)
        jax.block_until_ready(state)
        return {name: np.asarray(total / weight) for name, (total, weight) in metrics.items()}

    return step


def named(steps: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {f"{name} {i}": step[name] for i, step in enumerate(steps) for name in ("loss", "grad_norm")}


def compiled(folder: Path, size: str, batch: int) -> Op:
    return eager(folder, size, batch, compile=True)


def eager(folder: Path, size: str, batch: int, *, compile: bool = False) -> Op:
    import torch

    from benchmarks.torch_vit import ATTENTION, SIZES, CrossDecoder, Vit, normalize

    sdpa = ATTENTION["sdpa"]
    dim, _, _, patch, grid = SIZES[size]
    tokens, kept = grid**2, int(grid**2 * (1 - MASK_RATIO))
    student = Vit(*SIZES[size], sdpa)
    decoder = CrossDecoder(dim, TARGET_DIM, tokens, *((512, 8, 16) if size == "ti" else (64, 2, 2)), sdpa)
    model = torch.nn.ModuleDict({"student": student, "decoder": decoder})
    model.load_state_dict(torch.load(folder / "weights.pth", weights_only=True))
    matrices, vectors = ([p for p in model.parameters() if (p.ndim > 1) is many] for many in (True, False))
    groups = [{"params": matrices, "weight_decay": DECAY}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=LR, betas=BETAS, fused=True)
    encode, decode = (torch.compile(f) if compile else f for f in (student.encode, decoder))
    image, target = torch.from_numpy(photo(grid * patch, batch)), torch.from_numpy(targets(batch, tokens))

    def backward(order: torch.Tensor) -> torch.Tensor:
        optimizer.zero_grad()
        x = student.embed(normalize(image))
        visible = x.gather(1, order[:, :kept, None].expand(-1, -1, x.shape[-1]))
        guess = decode(encode(visible), order)
        loss = torch.nn.functional.mse_loss(guess, target)
        loss.backward()
        return loss.detach()

    def run() -> torch.Tensor:
        loss = backward(torch.rand(batch, tokens).argsort(1))
        optimizer.step()
        return loss

    def check() -> dict[str, np.ndarray]:
        loss = backward(agreed_order(torch, torch.arange(batch), tokens))
        norm = torch.nn.utils.get_total_norm([p.grad for p in model.parameters()])
        optimizer.step()
        return {"loss": loss.numpy(), "grad_norm": norm.numpy()}

    return Op(run, lambda: named([check() for _ in range(2)]))
