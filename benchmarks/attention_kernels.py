"""Ways to compute attention on one accelerator, forward and backward, in bfloat16, for `ops.attention.choose`.

    python -m benchmarks.attention_kernels                  writes benchmarks/results/attention_<device>.md
    python -m benchmarks.attention_kernels --tiny           toy sizes on any device, to see that it runs; writes nothing

The sizes are SAM's windows and global attention (with decomposed relative positions, which a fused kernel gets as
extra channels of q and k), and the plain ViT's. Each way is compared with the plain one in float32 before it is timed,
output and all gradients, with more than one image: the errors are in the table, relative to the largest value. Tokamax
(`pip install tokamax`) has a column of its own where it can be imported. In every round each way has one turn.
"""

import argparse
import datetime
import functools
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sadist_jax.ops.attention import attention, augment

RESULTS = Path(__file__).parent / "results"
ROUNDS = 9
# name: (images, side of the token grid, heads, channels of a head, relative positions)
SIZES = {
    "SAM ViT-B, windows of 8 images": (200, 14, 12, 64, True),
    "SAM ViT-H, windows of 8 images": (200, 14, 16, 80, True),
    "SAM ViT-B, global, 8 images": (8, 64, 12, 64, True),
    "SAM ViT-H, global, 8 images": (8, 64, 16, 80, True),
    "EfficientSAM-Ti, 8 images": (8, 64, 3, 64, False),
    "SAMI decoder, 512 images": (512, 14, 16, 32, False),
}
TINY = {"relative": (2, 6, 2, 16, True), "plain": (2, 6, 2, 16, False)}

Way = Callable[..., jax.Array]


def ways() -> dict[str, Way]:
    """Functions of (q, k, v, relative)."""
    found: dict[str, Way] = {
        name: functools.partial(_ours, implementation=name) for name in ("plain", "blocks", "cudnn")
    }
    try:
        import tokamax
    except ImportError:
        return found

    def fused(q, k, v, relative):
        scale = q.shape[-1] ** -0.5
        if relative is not None:
            (q, k), scale = augment(q, k, relative), 1.0
        return tokamax.dot_product_attention(q, k, v, scale=scale)

    return found | {"tokamax": fused}


def _ours(q, k, v, relative, implementation):
    return attention(q, k, v, relative=relative, implementation=implementation)


def operands(images: int, side: int, heads: int, channels: int, relative: bool) -> tuple[Any, ...]:
    """q, k, v and scores of rows and columns, of the order of one, in bfloat16."""
    rng = np.random.default_rng(0)
    draw = lambda last: jnp.asarray(rng.standard_normal((images, side**2, heads, last), np.float32), jnp.bfloat16)  # noqa: E731
    return draw(channels), draw(channels), draw(channels), (draw(side), draw(side)) if relative else None


def passes(way: Way) -> dict[str, Callable[..., Any]]:
    """Forward alone, and forward with all gradients of a sum that weighs every output."""

    def total(*operands):
        out = way(*operands)
        return (out.astype(jnp.float32) * jnp.cos(jnp.arange(out.size).reshape(out.shape))).sum()

    return {"forward": jax.jit(way), "forward and backward": jax.jit(jax.grad(total, argnums=(0, 1, 2, 3)))}


def error(found: Any, expected: Any) -> float:
    """Largest difference of any leaf, relative to that leaf's largest value."""
    pairs = zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True)
    return max(float(np.abs(np.float32(a) - np.float32(b)).max() / np.abs(np.float32(b)).max()) for a, b in pairs)


def compare(size: tuple[int, int, int, int, bool]) -> dict[str, tuple[dict[str, Any], str]]:
    """Ways that can do it, with their passes and how far they are from float32; or why they cannot."""
    few = operands(2, *size[1:])
    exact = passes(_plain32)
    expected = {name: run(*few) for name, run in exact.items()}
    found = {}
    for name, way in ways().items():
        runs = passes(way)
        try:
            off = {what: error(run(*few), expected[what]) for what, run in runs.items()}
        except Exception as reason:  # whatever a kernel says that it cannot do
            found[name] = ({}, f"cannot: {type(reason).__name__}: {str(reason).strip().partition(chr(10))[0][:80]}")
        else:
            found[name] = (runs, ", ".join(f"{value:.0e}" for value in off.values()))
    return found


def _plain32(q, k, v, relative):
    wide = lambda x: None if x is None else x.astype(jnp.float32)  # noqa: E731
    with jax.default_matmul_precision("highest"):
        return _ours(wide(q), wide(k), wide(v), jax.tree.map(wide, relative), "plain")


def section(name: str, size: tuple[int, int, int, int, bool]) -> str:
    """The table of one size."""
    found, full = compare(size), operands(*size)
    times: dict[tuple[str, str], list[float]] = {}
    for number in range(ROUNDS + 1):
        for way, (runs, _) in found.items():
            for what, run in list(runs.items()):
                start = time.perf_counter()
                try:
                    jax.block_until_ready([run(*full) for _ in range(5)])
                except jax.errors.JaxRuntimeError:  # out of memory
                    del runs[what]
                    continue
                if number:  # the first compiles
                    times.setdefault((way, what), []).append((time.perf_counter() - start) / 5)
    lines = [f"## {name}", "", "| | forward, ms | forward and backward, ms | errors of both |"]
    lines += ["| --- | ---: | ---: | --- |"]
    for way, (_, off) in found.items():
        cells = [
            f"{statistics.median(times[way, what]) * 1e3:.3g}" if (way, what) in times else "-"
            for what in ("forward", "forward and backward")
        ]
        lines.append(f"| {way} | {cells[0]} | {cells[1]} | {off} |")
    return "\n".join([*lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true")
    args = parser.parse_args()
    device = jax.devices()[0]
    head = (
        f"# Attention on {device.device_kind}\n\n`python -m benchmarks.attention_kernels`, {datetime.date.today()}, "
        f"jax {jax.__version__}, bfloat16, medians of {ROUNDS} rounds.\n"
    )
    parts = [head]
    for name, size in (TINY if args.tiny else SIZES).items():
        parts.append(section(name, size))
        print(parts[-1], flush=True)
        if not args.tiny:
            page = RESULTS / f"attention_{device.device_kind.lower().replace(' ', '_')}.md"
            page.write_text("\n".join(parts))


if __name__ == "__main__":
    main()
