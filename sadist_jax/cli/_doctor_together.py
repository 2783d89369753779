"""What `sadist doctor` looks at with all hosts together. Every function here is collective, and ends on all or none."""

import contextlib
import json
import os
import platform
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from sadist_jax.cli._doctor_checks import Finding, Verdict, examined, existing, probe
from sadist_jax.cli._terminal import say
from sadist_jax.errors import BadInput, ClusterProblem
from sadist_jax.parallel import agreement, hosts, preflight, shard
from sadist_jax.parallel import mesh as meshes
from sadist_jax.train import run as runs
from sadist_jax.train.run import Run

BLOCK = 2**20  # float32 that each device adds: 4 MiB, a middling leaf
SKEW = 2.0  # seconds
_SEEN = 5.0  # seconds in which a file of one host shows on another, past a network drive's cache


def of_machines() -> list[Finding]:
    """The checks that need no run."""
    found = [examined("all-reduce", _all_reduce)]
    return [*found, _clocks()] if hosts.count() > 1 else found


def of_run(run: Run | None, alone: list[Finding]) -> list[Finding]:
    """That all hosts have the same run, the same data and one directory; `alone`: what this one found by itself."""
    if hosts.count() == 1:
        return []
    found = [_same(run)]
    if run is not None:
        found += [_same_data(alone), _shared(run)]
    return found


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    """End the process with a sentence where the block does not: a collective cannot be interrupted otherwise."""

    def give_up() -> None:
        say(
            f"failed: the hosts wait for each other for more than {seconds:g} s; look for one that has stopped or is "
            f"slow to open its data ({preflight.PATIENCE}), and at the network between them"
        )
        os._exit(ClusterProblem.exit_code)

    timer = threading.Timer(seconds, give_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _all_reduce() -> Verdict:
    """Device i adds i + 1 everywhere, so the sum is known, and exact in float32 for fewer than 5,793 devices."""
    mesh = meshes.make(meshes.MeshSpec())
    count = mesh.size

    def row(part: Any) -> np.ndarray:
        return np.full((1, BLOCK), (part[0].start or 0) + 1, np.float32)

    rows = jax.make_array_from_callback((count, BLOCK), shard.rows(mesh), row)
    add = jax.jit(lambda x: x.sum(0), out_shardings=shard.replicated(mesh))
    total = np.asarray(add(rows).addressable_data(0))  # and the compilation
    seconds = []
    for _ in range(3):
        begun = time.perf_counter()
        add(rows).block_until_ready()
        seconds.append(time.perf_counter() - begun)
    if not (total == count * (count + 1) / 2).all():
        raise BadInput(f"the sum over {count} devices is wrong; exchange the device or the link that is broken")
    return "ok", f"{BLOCK * 4 // 2**20} MiB over {count} device(s) in {1000 * min(seconds):.2f} ms"


def _clocks() -> Finding:
    hosts.barrier("clocks")
    now = [float(text) for text in hosts.gather_text(repr(time.time()))]
    ahead = now[hosts.index()] - sorted(now)[(len(now) - 1) // 2]
    if abs(ahead) > SKEW:
        sentence = f"{abs(ahead):.1f} s {'ahead of' if ahead > 0 else 'behind'} most others; set it (NTP)"
        return Finding("clocks", "warning", sentence)
    return Finding("clocks", "ok", f"within {SKEW:g} s of each other")


def _same(run: Run | None) -> Finding:
    facts = agreement.facts(None if run is None else runs.as_json(run))
    return _compared("agreement", facts, "the same code, packages, devices and options")


def _same_data(alone: list[Finding]) -> Finding:
    """Of samples and fingerprints; why a host has none, its own check says."""
    data = next(finding for finding in alone if finding.check == "data")
    known = data.state == "ok"
    facts = {"data": data.sentence if known else "unreadable"}
    return _compared("same data", facts, "on all hosts" if known else "none to compare")


def _compared(check: str, facts: dict[str, str], fine: str) -> Finding:
    told = [json.loads(text) for text in hosts.gather_text(json.dumps([platform.node(), facts]))]
    sentence = agreement.difference(told)
    return Finding(check, "ok", fine) if sentence is None else Finding(check, "failed", sentence)


def _shared(run: Run) -> Finding:
    """Process 0 writes a file, and everybody looks for it."""
    with contextlib.ExitStack() as stack:
        name = ""
        if hosts.index() == 0:
            with contextlib.suppress(OSError):  # "directory" has said why
                file = stack.enter_context(probe(existing(run.directory)))
                file.touch()
                name = str(file)
        name = hosts.gather_text(name)[0]
        seen = bool(name) and _appears(Path(name))
        hosts.barrier("everybody has looked")
    if seen:
        return Finding("shared", "ok", f"what process 0 writes to {run.directory} is seen everywhere")
    return Finding(
        "shared", "failed", f"what process 0 writes for {run.directory} is not seen here; give --out a shared drive"
    )


def _appears(file: Path) -> bool:
    deadline = time.monotonic() + _SEEN
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            if file.name in os.listdir(file.parent):  # a network drive may remember that a name was not there
                return True
        time.sleep(0.1)
    return False
