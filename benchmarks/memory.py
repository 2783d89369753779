"""Peak memory of the big programs by batch size, from the compiler: nothing is run, so it needs no such machine.

    python -m benchmarks.memory                       the programs as compiled for this machine's device
    python -m benchmarks.memory --target h100         for a GPU that need not be there (see deviceless.py)
    python -m benchmarks.memory --only sami_vit_b --batches 8 16

A row is what XLA reserves for one step: arguments (weights, moments, the batch), results that do not take an argument's
place, and temporaries. The heading names the device that a program was compiled for, and rows of different devices are
never mixed: compilers fuse differently, and only GPUs have fused attention. Runtime, kernels' own workspaces and
fragmentation come on top: about 1 GB on a GPU.

Prints the tables, and writes benchmarks/results/memory_<device>.md when nothing was left out.
"""

import argparse
import contextlib
import datetime
import functools
import os
from pathlib import Path

import jax

from benchmarks import deviceless, programs
from benchmarks.programs import Reserved, Work

# ynn: without it temporaries inside YNNPACK's fusions are not counted (65 MB instead of 1674 MB were seen);
FLAGS = "--xla_cpu_experimental_ynn_fusion_type="
# for a card that is not there: nothing to time candidates on, and untimed tiles may not fit
ABSENT = "--xla_gpu_autotune_level=0 --xla_gpu_enable_triton_gemm=false"
RESULTS = Path(__file__).parent / "results"
PROGRAMS: dict[str, tuple[functools.partial[Work], tuple[int, ...]]] = {
    "sam_vit_h_encoder": (functools.partial(programs.sam_encoder, "vit_h"), (1, 2, 4, 8, 16, 32)),
    "sami_vit_b": (functools.partial(programs.sami_cached, "b"), (32, 128, 512, 2048)),
    "sami_vit_b_remat": (functools.partial(programs.sami_cached, "b", remat=True), (32, 128, 512, 2048)),
    "efficient_sam_s_promptable": (functools.partial(programs.promptable, "s"), (1, 2, 4, 8, 16)),
    "wesam_vit_b": (functools.partial(programs.weak_lora, "vit_b"), (1, 2, 4, 8)),
    "wesam_vit_b_float32": (functools.partial(programs.weak_lora, "vit_b", dtype="float32"), (1, 2, 4)),
}


def render(name: str, rows: dict[int, Reserved]) -> str:
    """A table, with the largest batch among these that fits into common sizes of memory."""
    lines = [f"## {name}", "", (PROGRAMS[name][0].func.__doc__ or "").partition("\n\n")[0].strip(), ""]
    lines += ["| batch | total, GiB | arguments | temporaries |", "| ---: | ---: | ---: | ---: |"]
    lines += [
        f"| {batch} | {row.total / 2**30:.2f} | {row.arguments / 2**30:.2f} | {row.temporary / 2**30:.2f} |"
        for batch, row in rows.items()
    ]
    fits = []
    for size in (8, 16, 24, 80):
        batches = [batch for batch, row in rows.items() if row.total < (size - 1) * 2**30]
        fits.append(f"{size} GB: {max(batches) if batches else 'none of these'}")
    return "\n".join([*lines, "", f"Largest of these batches with 1 GB to spare: {'; '.join(fits)}.", ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=PROGRAMS, nargs="+", default=list(PROGRAMS))
    parser.add_argument("--batches", type=int, nargs="+", help="instead of each program's own")
    parser.add_argument("--target", choices=deviceless.TARGETS, help="compile for this card instead")
    args = parser.parse_args()
    # read when a device is first asked for
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {FLAGS} {ABSENT if args.target else ''}".strip()
    with deviceless.target(args.target) if args.target else contextlib.nullcontext(jax.devices()[0]) as device:
        tables = []
        for name in args.only:
            program, batches = PROGRAMS[name]
            rows = {}
            for batch in args.batches or batches:
                work = program(batch)
                rows[batch] = programs.reserved(work.step.lower(*work.shapes).compile())
                print(f"{name}, batch {batch}: {rows[batch].total / 2**30:.2f} GiB", flush=True)
            tables.append(render(name, rows))
    option = f" --target {args.target}" if args.target else ""
    head = (
        f"# Memory by batch size, compiled for {device.device_kind}\n\n"
        f"`python -m benchmarks.memory{option}`, {datetime.date.today()}, jax {jax.__version__}. What XLA reserves for "
        f"one step; nothing was run{', and there was no such card' if args.target else ''}.\n"
    )
    page = "\n".join([head, *tables])
    if args.only == list(PROGRAMS) and args.batches is None:
        (RESULTS / f"memory_{args.target or device.platform}.md").write_text(page)
    print(page)


if __name__ == "__main__":
    main()
