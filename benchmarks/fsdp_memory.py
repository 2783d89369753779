"""Memory and collectives of SAMI with ViT-H as teacher and ViT-B as student, on one device and on eight that share it.

    python -m benchmarks.fsdp_memory                  writes benchmarks/results/fsdp_memory.md
    python -m benchmarks.fsdp_memory --batches 64     prints only

The step of configs/sami_b.py is compiled for simulated CPU devices and not run: the eight are one mesh axis `fsdp`,
which shares weights, moments and the batch. The teacher's blocks are a scan (`--method.teacher.encoder.remat`), so
that its weights are gathered a few blocks at a time: unrolled, XLA's CPU backend holds all of them at once (batch 64:
3.98 GiB a device instead of 1.97). The fixed share of a device, those blocks, counts less the larger the batch is: the
bound holds for the last one. Memory is arguments and temporaries of one device, from the compiler, with
the CPU backend's fusion library off, inside which temporaries are not counted. Attention is the CPU's form, and
bfloat16 is computed in float32 where that backend has no other way: what counts is the ratio.
"""

import argparse
import datetime
import os
from pathlib import Path

import jax

from benchmarks import memory, programs
from sadist_jax.parallel import collectives

DEVICES = 8
BATCHES = (64, 256)
LEAST = 6  # so many times less on a device, at least, at the largest batch
QUICKLY = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}  # no machine code is run
RESULT = Path(__file__).parent / "results" / "fsdp_memory.md"
KINDS = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")


def measure(batch: int, devices: int) -> tuple[int, list[collectives.Collective]]:
    """(bytes of arguments and temporaries on one device, collectives) of the compiled step."""
    work = programs.sami_online("b", "vit_h", batch, fsdp=devices, remat=True)
    compiled = work.step.lower(*work.shapes).compile(QUICKLY)
    reserved = programs.reserved(compiled)
    parts = f"arguments {reserved.arguments / 2**30:.2f}, temporaries {reserved.temporary / 2**30:.2f} GiB"
    print(f"batch {batch} on {devices}: {parts}", flush=True)
    return reserved.arguments + reserved.temporary, collectives.find(compiled.as_text())


def row(batch: int) -> str:
    """A line of the table. Raises SystemExit where eight devices do not pay."""
    alone, _ = measure(batch, 1)
    shared, found = measure(batch, DEVICES)
    if batch == BATCHES[-1] and shared * LEAST > alone:
        raise SystemExit(
            f"batch {batch}: {shared / 2**30:.2f} GiB of {alone / 2**30:.2f}, less than {LEAST} times less"
        )
    cells = [f"{collectives.times(found, k)}, {collectives.received(found, k) / 2**30:.2f}" for k in KINDS]
    sizes = [f"{alone / 2**30:.2f}", f"{shared / 2**30:.2f}", f"1/{alone / shared:.1f}"]
    return f"| {' | '.join([str(batch), *sizes, *cells, f'{collectives.received(found) / 2**30:.2f}'])} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, nargs="+", default=BATCHES)
    args = parser.parse_args()
    flags = f"{memory.FLAGS} --xla_force_host_platform_device_count={DEVICES}"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flags}".strip()
    head = [
        f"# Fully sharded over {DEVICES} devices: SAMI, ViT-B with ViT-H as teacher",
        "",
        f"`python -m benchmarks.fsdp_memory`, {datetime.date.today()}, jax {jax.__version__}. Compiled for simulated "
        f"CPU devices, nothing run. Memory: arguments and temporaries of one device. Of the collectives of a step: how "
        f"many, and GiB that one device receives (ring algorithms among {DEVICES}).",
        "",
        f"| batch | GiB on 1 | on each of {DEVICES} | ratio | {' | '.join(KINDS)} | received |",
        f"|{' ---: |' * (5 + len(KINDS))}",
    ]
    page = "\n".join([*head, *(row(batch) for batch in args.batches), ""])
    if tuple(args.batches) == BATCHES:
        RESULT.write_text(page)
    print(page)


if __name__ == "__main__":
    main()
