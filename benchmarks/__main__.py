"""Times ours side by side with PyTorch: python -m benchmarks [CASE ...]."""

import argparse
import datetime
import shlex
import signal
import sys
from pathlib import Path

from benchmarks import (
    efficient_sam_encoder,
    everything,
    interleave,
    machine,
    mask_decoder,
    report,
    sam_encoder,
    sami_step,
    sami_teacher,
    weak_step,
)  # fmt: skip
from benchmarks.case import Case

MODULES = (sam_encoder, mask_decoder, efficient_sam_encoder, sami_step, sami_teacher, weak_step, everything)


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    names = [case.name for module in MODULES for case in module.cases()]
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"{', '.join(names)}; all when none is named")
    parser.add_argument("--rounds", type=int, default=9, help="turns of each contender (default: 9)")
    parser.add_argument("--torch-python", default=sys.executable, help="interpreter with torch (default: this one)")
    parser.add_argument("--cores", type=int, default=min(2, machine.available()), help="threads of each contender")
    parser.add_argument("--limit", type=float, default=900, help="seconds within which a contender must answer")
    parser.add_argument("--tiny", action="store_true", help="toy sizes, to see that it runs; writes nothing")
    parser.add_argument("--out", type=Path, default=interleave.ROOT / "benchmarks" / "results", help="for the tables")
    args = parser.parse_args(argv)
    if unknown := set(args.cases) - set(names):
        parser.error(f"no such case: {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    if args.rounds < 1 or not 1 <= args.cores <= machine.available():
        parser.error(f"--rounds must be at least 1, and --cores between 1 and {machine.available()}")

    chosen = [c for module in MODULES for c in module.cases(tiny=args.tiny) if not args.cases or c.name in args.cases]
    return 1 if [case.name for case in chosen if not measure(case, args)] else 0


def measure(case: Case, args: argparse.Namespace) -> bool:
    """Time one case, print and keep its table; whether all contenders came through."""
    meter, date = machine.Meter(), datetime.date.today().isoformat()
    print(f"{case.name}: {len(case.contenders)} contenders, {args.rounds} rounds", file=sys.stderr, flush=True)
    limits = {"torch_python": args.torch_python, "cores": args.cores, "limit": args.limit}
    try:
        result = interleave.run(case, rounds=args.rounds, **limits)
    except interleave.Mismatch as error:
        print(f"{case.name}: {error}; nothing was timed", file=sys.stderr)
        return False
    command = f"python -m benchmarks {shlex.quote(case.name)} --rounds {args.rounds} --cores {args.cores}"
    about = {"command": command, "date": date, "machine": machine.describe(), "cores": args.cores}
    contents = report.record(case, result, about | {"others": meter.others()})
    print(report.section(contents), flush=True)
    if not args.tiny:
        report.write(args.out, case.name, contents)
    return not any(score.died for score in result.scores.values())


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that processes and folders are cleared away
    sys.exit(main(sys.argv[1:]))
