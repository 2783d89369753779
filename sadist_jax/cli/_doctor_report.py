"""How `sadist doctor` tells what all hosts found."""

from collections.abc import Iterable, Iterator, Sequence

from sadist_jax.cli._doctor_checks import Finding
from sadist_jax.errors import BadInput, ClusterProblem

BETWEEN = {"coordinator", "agreement", "same data", "shared", "all-reduce", "clocks"}  # hosts, not one host
_LISTED = 8  # hosts that the lines of a check name

Findings = Sequence[tuple[str, Sequence[Finding]]]  # (host, what it found) of every process, in their order


def lines(everybody: Findings) -> Iterator[str]:
    """A line for each check, one for each process where it is not ok, the table of hosts, and a summary."""
    checks = list(dict.fromkeys(finding.check for _, found in everybody for finding in found))
    for check in checks:
        yield from _of_check(check, everybody)
    if len(everybody) > 1:
        yield ""
        yield from _table(checks, everybody)
    states = [finding.state for _, found in everybody for finding in found]
    yield ""
    yield f"{states.count('failed')} failed, {states.count('warning')} warning(s), {states.count('ok')} ok"


def row(state: str, check: str, sentence: str) -> str:
    return f"{state:8} {check:12} {sentence}"


def exit_code(findings: Iterable[Finding]) -> int:
    """0, or 2 or 3 where something failed: on a host by itself, or between hosts."""
    failed = {finding.check for finding in findings if finding.state == "failed"}
    return 0 if not failed else ClusterProblem.exit_code if failed & BETWEEN else BadInput.exit_code


def _of_check(check: str, everybody: Findings) -> Iterator[str]:
    told: dict[Finding, list[int]] = {}
    for process, (_, found) in enumerate(everybody):
        for finding in found:
            if finding.check == check:
                told.setdefault(finding, []).append(process)
    bad = [finding for finding in told if finding.state != "ok"]
    for finding in bad[:_LISTED] or list(told)[:1]:  # where all is ok, the first stands for the others
        everywhere = not bad or len(told[finding]) == len(everybody)
        named = "" if everywhere else f"process {', '.join(map(str, told[finding][:_LISTED]))}: "
        yield row(finding.state, check, named + finding.sentence)


def _table(checks: Sequence[str], everybody: Findings) -> Iterator[str]:
    """Hosts by checks; those where all is ok share a row where there are many."""
    states = [{finding.check: finding.state for finding in found} for _, found in everybody]
    good = [set(theirs.values()) == {"ok"} for theirs in states]
    fold = len(everybody) > 2 * _LISTED
    names = [f"process {i} ({host})" for i, (host, _) in enumerate(everybody)]
    width = max(map(len, names))
    yield "  ".join([" " * width, *(f"{check:>7}" for check in checks)])
    for name, theirs, fine in zip(names, states, good, strict=True):
        if not (fold and fine):
            cells = [f"{theirs.get(check, '-'):>{max(len(check), 7)}}" for check in checks]
            yield "  ".join([f"{name:{width}}", *cells])
    if fold and any(good):
        yield f"{sum(good)} other processes: all ok"
