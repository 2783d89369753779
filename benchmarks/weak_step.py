"""One WeSAM step of one image with many boxes: ours as `sadist train` runs it, and eager PyTorch on the official SAM.

Both have updates of rank 4 on q and v of every block and nothing else that trains, a teacher and a student of the same
weights, a frozen anchor, the losses as the paper means them, and Adam. Both start from the same base and updates, and
before the timing take two steps: every loss, the gradient's norm and the number of parameters that train must agree.
What the compiler reserves for our step: python -m benchmarks.memory --only wesam_vit_b wesam_vit_b_float32
"""

from pathlib import Path

import numpy as np

from benchmarks.case import Case, Contender, Op, draw, photo
from benchmarks.sam_encoder import build_official

LR, RANK = 1e-4, 4
SIZES = {"mini": (256, 192, 6), "vit_b": (1024, 768, 12)}  # pixels, width, blocks
COMPARED = ("loss", "focal", "dice", "iou", "anchor", "contrast", "grad_norm")
STEPS = 2  # compared: the second has what the first has changed
ADAPTERS, ANCHOR = "adapters.npz", "anchor.npy"


def cases(*, tiny: bool = False) -> list[Case]:
    size, chunk = ("mini", 2) if tiny else ("vit_b", 8)
    side, dim, depth = SIZES[size]
    trained = depth * 2 * 2 * RANK * dim  # q and v of every block have A and B, each of rank x dim numbers

    def case(instances: int, *others: Contender) -> Case:
        options = {"size": size, "instances": max(2, instances // 8) if tiny else instances, "chunk": chunk}
        title = f"WeSAM step, SAM {size}, {side} px, {options['instances']} boxes; {trained:,} parameters train"
        return Case(f"weak_step_{instances}", title, (*others, *contenders()), prepare, options)

    # all that eager PyTorch keeps of two branches for the backward pass takes a larger machine with 40 boxes
    return [case(40), case(4, Contender("torch, eager", eager, torch=True))]


def contenders() -> tuple[Contender, ...]:
    return (
        Contender("torch, blocks and chunks computed again", again, torch=True),
        Contender("sadist_jax", ours),
        Contender("sadist_jax, anchor's embedding given", given),
    )


def prepare(folder: Path, size: str, instances: int, chunk: int) -> None:
    """Write the base, the updates, and the anchor's embedding."""
    import jax

    from sadist_jax import tree
    from sadist_jax.nn import table
    from sadist_jax.weights.pth import read_pth
    from tests.adapt import tiny

    model = make_method(size, chunk).model
    draw(folder, model.sam.table())
    assert model.lora is not None
    np.savez(folder / ADAPTERS, **tree.flatten(tiny.adapters(model.sam, model.lora)))
    base = table.from_reference(model.sam.table(), read_pth(folder / "weights.pth"))
    rows = make_rows(size, instances)
    np.save(folder / ANCHOR, jax.jit(model.sam.encode)(base, rows["image"], rows["size"]))


def make_method(size: str, chunk: int):
    from sadist_jax.methods.adapted import Adapted
    from sadist_jax.methods.weak_lora import WeakLora
    from sadist_jax.models.sam import Sam

    return WeakLora(Adapted(getattr(Sam, size)(remat=True), chunk=chunk))


def make_rows(size: str, instances: int) -> dict[str, np.ndarray]:
    """A batch of one image, three quarters as wide as high, with boxes all over it."""
    side, _, _ = SIZES[size]
    height, width = side, 3 * side // 4
    image = photo(side)
    image[:, height:] = image[:, :, width:] = 0
    corners = np.sort(np.random.default_rng(1).uniform(0, (width - 1, height - 1), (1, instances, 2, 2)), 2)
    return {
        "image": image,
        "strong": np.where(image > 0, 255 - image, 0).astype(np.uint8),
        "size": np.array([[height, width]], np.int32),
        "instance": np.ones((1, instances), bool),
        "points": corners.astype(np.float32),
        "labels": np.tile(np.array([2, 3], np.int32), (1, instances, 1)),  # the corners of a box
        "index": np.zeros(1, np.int32),
        "weight": np.ones(1, np.float32),
    }


def given(folder: Path, size: str, instances: int, chunk: int) -> Op:
    return ours(folder, size, instances, chunk, anchor=np.load(folder / ANCHOR))


def ours(folder: Path, size: str, instances: int, chunk: int, *, anchor: np.ndarray | None = None) -> Op:
    """anchor: the anchor's embedding, which is then not computed."""
    import jax

    from sadist_jax import tree
    from sadist_jax.nn import table
    from sadist_jax.parallel.mesh import MeshSpec
    from sadist_jax.parallel.shard import ShardSpec
    from sadist_jax.train import plan
    from sadist_jax.train.optim import Optim
    from sadist_jax.weights.pth import read_pth

    method = make_method(size, chunk)
    base = table.from_reference(method.model.sam.table(), read_pth(folder / "weights.pth"))
    with np.load(folder / ADAPTERS) as adapters:
        values = tree.flatten({"model": tree.merge(base, tree.unflatten(dict(adapters)))})
    layout = {"mesh": MeshSpec(), "shard_spec": ShardSpec(), "devices": jax.devices()[:1]}
    run = plan.make(method, steps=10**6, global_batch=1, optim=Optim(lr=LR, schedule="constant"), **layout)
    state, frozen = run.create(values), run.create_frozen(values)
    trained = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    rows = make_rows(size, instances) | ({} if anchor is None else {"anchor": anchor})
    placed = jax.device_put(rows, run.rows)

    def step() -> dict[str, np.ndarray]:
        nonlocal state
        state, metrics = run.step(state, frozen, placed)
        jax.block_until_ready(state)
        return {name: np.asarray(total / weight) for name, (total, weight) in metrics.items()}

    return Op(step, lambda: named([step() for _ in range(STEPS)], trained))


def named(steps: list[dict[str, np.ndarray]], trained: int) -> dict[str, np.ndarray]:
    values = {f"{name} {i}": step[name] for i, step in enumerate(steps) for name in COMPARED}
    return values | {"parameters that train": np.array(trained, np.float64)}


def eager(folder: Path, size: str, instances: int, chunk: int) -> Op:
    """All boxes at once, and everything kept for the backward pass."""
    return again(folder, size, instances, instances, recompute=False)


def again(folder: Path, size: str, instances: int, chunk: int, *, recompute: bool = True) -> Op:
    import torch

    from benchmarks.torch_lora import Adapted, stepper

    rows = make_rows(size, instances)
    height, width = rows["size"][0]
    weak, strong = (
        torch.from_numpy(rows[name][:, :height, :width]).permute(0, 3, 1, 2) for name in ("image", "strong")
    )
    with np.load(folder / ADAPTERS) as updates:
        model = Adapted(build_official(folder, size), dict(updates), chunk, again=recompute)
    trained = sum(parameter.numel() for parameter in model.parameters)
    step = stepper(model, weak, strong, torch.from_numpy(rows["points"]).reshape(-1, 4), LR)
    return Op(step, lambda: named([step() for _ in range(STEPS)], trained))
