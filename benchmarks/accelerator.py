"""Images a second, share of the peak (MFU) and memory of the big programs on one accelerator, in bfloat16.

    python -m benchmarks.accelerator                        everything; writes benchmarks/results/<device>.md
    python -m benchmarks.accelerator sami_ti_cached --batches 1024
    python -m benchmarks.accelerator --tiny                 toy sizes on any device, to see that it runs; writes nothing

Weights and batch lie on the device, and steps are queued back to back, so it is the device that is timed; a row is the
median of several turns. FLOPs are by formula (flops.py): what is computed again to save memory does not count. Memory
is what XLA reserves: arguments, results and temporaries. A case that does not fit says so, and the others go on; rows
are kept as they come beside those of earlier runs, and with `--resume` only what is missing or failed is measured.
"""

import argparse
import datetime
import functools
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from benchmarks import programs
from benchmarks.programs import Work

RESULTS = Path(__file__).parent / "results"
# dense bfloat16, from the makers' data sheets, by what JAX's name of the device begins with
PEAK = {
    "NVIDIA H100 80GB HBM3": 989e12, "NVIDIA H100 PCIe": 756e12, "NVIDIA H200": 989e12, "NVIDIA A100": 312e12,
    "NVIDIA L40S": 362e12, "TPU v4": 275e12, "TPU v5 lite": 197e12, "TPU v5p": 459e12, "TPU v6 lite": 918e12,
}  # fmt: skip

Rows = dict[str, list[dict[str, Any]]]  # by case, as `measure` gives them
Case = tuple[Callable[[int], Work], tuple[int, ...]]
part = functools.partial


def cases(*, tiny: bool = False) -> dict[str, Case]:
    """Programs and the batch sizes to try; the best one counts."""
    if tiny:
        return {
            "sam_mini_encoder": (part(programs.sam_encoder, "mini"), (1, 2)),
            "efficient_sam_mini_encoder": (part(programs.efficient_sam_encoder, "mini"), (2,)),
            "sami_mini_cached": (part(programs.sami_cached, "mini"), (2,)),
            "sami_mini_online": (part(programs.sami_online, "mini", "mini"), (2,)),
            "efficient_sam_mini_promptable": (part(programs.promptable, "mini"), (1,)),
        }
    return {
        "sam_vit_b_encoder": (part(programs.sam_encoder, "vit_b"), (8, 16, 32)),
        "sam_vit_l_encoder": (part(programs.sam_encoder, "vit_l"), (8, 16)),
        "sam_vit_h_encoder": (part(programs.sam_encoder, "vit_h"), (8, 16)),
        "efficient_sam_ti_encoder": (part(programs.efficient_sam_encoder, "ti"), (8, 32)),
        "efficient_sam_s_encoder": (part(programs.efficient_sam_encoder, "s"), (8, 32)),
        "sami_ti_cached": (part(programs.sami_cached, "ti"), (512, 1024)),
        "sami_s_cached": (part(programs.sami_cached, "s"), (512, 1024)),
        "sami_ti_online": (part(programs.sami_online, "ti", "vit_h"), (256, 512)),
        "efficient_sam_ti_promptable": (part(programs.promptable, "ti"), (4, 8)),
        "efficient_sam_s_promptable": (part(programs.promptable, "s"), (4, 8)),
    }


class Player:
    """A compiled program with its values on the device."""

    def __init__(self, work: Work):
        self._work = work
        self._step = work.step.lower(*work.shapes).compile()
        self.memory = programs.reserved(self._step).total
        self._first, *self._rest = work.make()

    def turn(self, seconds: float) -> float:
        """Seconds a step, of as many as fill about `seconds`."""
        once = self._steps(1)
        many = max(1, min(1000, round(seconds / once)))
        return self._steps(many) / many

    def _steps(self, many: int) -> float:
        start, result = time.perf_counter(), None
        for _ in range(many):
            result = self._step(self._first, *self._rest)
            if self._work.carries:
                self._first, result = result
        jax.block_until_ready((self._first, result))
        return time.perf_counter() - start


def measure(case: Callable[[int], Work], batch: int, *, rounds: int, seconds: float) -> dict[str, Any]:
    """One row of results; `failed` says why there is none."""
    try:
        work = case(batch)
        player = Player(work)
        player.turn(0)
        turns = [player.turn(seconds) for _ in range(rounds)]
    except jax.errors.JaxRuntimeError as error:  # out of memory
        return {"batch": batch, "failed": str(error).partition("\n")[0][:200]}
    step = statistics.median(turns)
    spread = [min(turns), max(turns)]
    return {"batch": batch, "step": step, "spread": spread, "flops": work.flops, "memory": player.memory}


def peak() -> float | None:
    """FLOP/s of the default device; None where it is not known."""
    kind = jax.devices()[0].device_kind
    return next((value for name, value in PEAK.items() if kind.startswith(name)), None)


def render(rows: Rows, device: str, peak: float | None) -> str:
    lines = [f"# {device}", "", "By `python -m benchmarks.accelerator`; its text says what is measured.", ""]
    lines += ["| program | batch | images/s | step, ms | TFLOP/s | MFU | memory, GiB |"]
    lines += ["| --- | ---: | ---: | ---: | ---: | ---: | ---: |"]
    for name, measured in rows.items():
        for row in measured:
            if "failed" in row:
                lines.append(f"| {name} | {row['batch']} | failed: {row['failed']} | | | | |")
                continue
            images = row["batch"] / row["step"]
            rate = images * row["flops"]
            share = f"{rate / peak:.1%}" if peak else "-"
            lines.append(
                f"| {name} | {row['batch']} | {images:.4g} | {row['step'] * 1e3:.4g} | {rate / 1e12:.4g} | {share} "
                f"| {row['memory'] / 2**30:.2f} |"
            )
    when = sorted({f"jax {row['jax']}, {row['date']}" for measured in rows.values() for row in measured})
    return "\n".join([*lines, "", f"Measured with {'; '.join(when)}.", ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", help=f"of {', '.join(cases())}; all when none is named")
    parser.add_argument("--batches", type=int, nargs="+", help="instead of each case's own")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.0, help="of one turn")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--resume", action="store_true", help="measure only what the file of results has not")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    known = cases(tiny=args.tiny)
    if unknown := set(args.cases) - set(known):
        parser.error(f"no such case: {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    device = jax.devices()[0]
    about = {"jax": jax.__version__, "date": str(datetime.date.today())}
    page = args.out / f"{device.device_kind.lower().replace(' ', '_')}.md"
    kept = page.with_suffix(".json")
    rows: Rows = {} if args.tiny or not kept.exists() else json.loads(kept.read_text())
    for name in args.cases or known:
        case, batches = known[name]
        for batch in args.batches or batches:
            there = {row["batch"]: row for row in rows.get(name, [])}
            if args.resume and batch in there and "failed" not in there[batch]:
                continue
            there[batch] = measure(case, batch, rounds=args.rounds, seconds=args.seconds) | about
            rows[name] = [there[batch] for batch in sorted(there)]
            print(name, json.dumps(there[batch]), flush=True)
            if not args.tiny:
                kept.write_text(json.dumps(rows, indent=1) + "\n")
                page.write_text(render(rows, device.device_kind, peak()))
    print(render(rows, device.device_kind, peak()))


if __name__ == "__main__":
    main()
