"""Peak memory of the big programs by batch size, from the compiler: nothing is run, so it needs no such machine.

    python -m benchmarks.memory                     the programs as compiled for this machine's device
    python -m benchmarks.memory --only sami_vit_b --batches 8 16

A row is what XLA reserves for one step: arguments (weights, moments, the batch), results that do not take an argument's
place, and temporaries. A program compiled for a CPU says little about a GPU, whose compiler fuses otherwise and has
fused attention; the heading names the device, and rows of different devices are never mixed. Runtime, kernels' own
workspaces and fragmentation come on top: about 1 GB on a GPU.

Prints the tables, and writes benchmarks/results/memory_<platform>.md when nothing was left out.
"""

import os

# without it temporaries inside YNNPACK's fusions are not counted (65 MB instead of 1674 MB were seen)
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_experimental_ynn_fusion_type=".strip()

import argparse
import dataclasses
import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from sadist_jax.methods.clicks import Clicks
from sadist_jax.methods.promptable import Promptable
from sadist_jax.methods.sami import Sami
from sadist_jax.methods.teacher import CachedFeatures
from sadist_jax.models.efficient_sam import EfficientSam
from sadist_jax.models.sam import Sam
from sadist_jax.models.vit import Vit
from sadist_jax.nn import table
from sadist_jax.parallel.mesh import MeshSpec
from sadist_jax.parallel.shard import ShardSpec
from sadist_jax.train import plan
from sadist_jax.train.optim import Optim

SIDE, INSTANCES = 1024, 16
RESULTS = Path(__file__).parent / "results"
Rows = dict[str, jax.ShapeDtypeStruct]


def vit_h_teacher(batch: int) -> Any:
    """SAM ViT-H's image encoder at 1024 px, float32 weights, bfloat16 activations: `sadist features`, labelling."""
    model = Sam.vit_h(dtype="bfloat16")
    params = table.abstract(model.table()["image_encoder"])
    image = jax.ShapeDtypeStruct((batch, SIDE, SIDE, 3), np.uint8)
    return jax.jit(lambda p, x: model.encode({"image_encoder": p}, x)).lower(params, image)


def sami_vit_b(batch: int) -> Any:
    """A training step of SAMI with a ViT-B student at 224 px, the teacher's features cached; AdamW."""
    student = Vit.b(dtype="bfloat16", remat=True)
    method = Sami.make(student, CachedFeatures(256))
    grid = student.grid
    rows = {"image": ((batch, 224, 224, 3), np.uint8), "target": ((batch, grid, grid, 256), np.float32)}
    return _step(method, batch, rows)


def promptable_efficient_sam_s(batch: int) -> Any:
    """A training step of EfficientSAM-S at 1024 px, 16 objects an image, three rounds of clicks; AdamW."""
    model = EfficientSam.s(dtype="bfloat16", remat=True)
    method = Promptable(model, Clicks(rounds=3, quiet_rounds=0), multimask="always")
    rows = {
        "image": ((batch, SIDE, SIDE, 3), np.uint8),
        "size": ((batch, 2), np.int32),
        "masks": ((batch, INSTANCES, SIDE, SIDE), np.uint8),
        "instance": ((batch, INSTANCES), np.bool_),
    }
    return _step(method, batch, rows)


PROGRAMS: dict[str, tuple[Callable[[int], Any], tuple[int, ...]]] = {
    "vit_h_teacher": (vit_h_teacher, (1, 2, 4, 8)),
    "sami_vit_b": (sami_vit_b, (8, 32, 128, 512)),
    "promptable_efficient_sam_s": (promptable_efficient_sam_s, (1, 2, 4, 8)),
}


def _step(method: Any, batch: int, rows: dict[str, tuple[tuple[int, ...], Any]]) -> Any:
    run = plan.make(
        method, steps=1000, global_batch=batch, optim=Optim(lr=1e-3), mesh=MeshSpec(), shard_spec=ShardSpec(),
        devices=jax.devices()[:1],
    )  # fmt: skip
    rows = {**rows, "index": ((batch,), np.int32), "weight": ((batch,), np.float32)}
    structs = {n: jax.ShapeDtypeStruct(shape, dtype, sharding=run.rows) for n, (shape, dtype) in rows.items()}
    return run.step.lower(run.template, run.frozen, structs)


@dataclasses.dataclass(frozen=True)
class Row:
    """Bytes of a compiled program."""

    batch: int
    arguments: int
    temporary: int
    fresh: int  # results that take no argument's place

    @property
    def total(self) -> int:
        return self.arguments + self.temporary + self.fresh


def row(batch: int, lowered: Any) -> Row:
    found = lowered.compile().memory_analysis()
    fresh = found.output_size_in_bytes - found.alias_size_in_bytes
    return Row(batch, found.argument_size_in_bytes, found.temp_size_in_bytes, max(0, fresh))


def render(name: str, rows: list[Row]) -> str:
    """A table, with the largest batch among these that fits into common sizes of memory."""
    lines = [f"## {name}", "", (PROGRAMS[name][0].__doc__ or "").strip(), ""]
    lines += ["| batch | total, GiB | arguments | temporaries |", "| ---: | ---: | ---: | ---: |"]
    lines += [
        f"| {r.batch} | {r.total / 2**30:.2f} | {r.arguments / 2**30:.2f} | {r.temporary / 2**30:.2f} |" for r in rows
    ]
    fits = []
    for size in (8, 16, 24, 80):
        batches = [r.batch for r in rows if r.total < (size - 1) * 2**30]
        fits.append(f"{size} GB: {max(batches) if batches else 'none of these'}")
    return "\n".join([*lines, "", f"Largest of these batches with 1 GB to spare: {'; '.join(fits)}.", ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=PROGRAMS, nargs="+", default=list(PROGRAMS))
    parser.add_argument("--batches", type=int, nargs="+", help="instead of each program's own")
    args = parser.parse_args()
    device = jax.devices()[0]
    head = (
        f"# Memory by batch size, compiled for {device.platform} ({device.device_kind})\n\n"
        f"`python -m benchmarks.memory`, {datetime.date.today()}, jax {jax.__version__}. What XLA reserves for one "
        "step; nothing was run.\n"
    )
    tables = []
    for name in args.only:
        program, batches = PROGRAMS[name]
        rows = []
        for batch in args.batches or batches:
            rows.append(row(batch, program(batch)))
            print(f"{name}, batch {batch}: {rows[-1].total / 2**30:.2f} GiB", flush=True)
        tables.append(render(name, rows))
    page = "\n".join([head, *tables])
    if args.only == list(PROGRAMS) and args.batches is None:
        (RESULTS / f"memory_{device.platform}.md").write_text(page)
    print(page)


if __name__ == "__main__":
    main()
