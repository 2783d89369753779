"""libtpu in a process of its own, which can be ended when it takes too long: it compiles a run's step for a slice.

python -m sadist_jax.cli._plan_tpu FILE KIND PER_NODE DEVICES CONFIG [options of the run]: FILE gets what came of it.
"""

import dataclasses
import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sadist_jax.cli import train
from sadist_jax.parallel import kinds
from sadist_jax.train import config

if TYPE_CHECKING:
    from sadist_jax.train.program import Program

TOO_LARGE = "RESOURCE_EXHAUSTED"
REFUSED = "libtpu says that it does not fit"
# The compiler's least effort, as the program will not run.
OPTIONS = {"exec_time_optimization_effort": -1.0, "memory_fitting_effort": -1.0}


def ask(
    name: str, kind: kinds.Kind, devices: int, options: Sequence[str], limit: float
) -> tuple["Program | None", str | None]:
    """(what libtpu says, None), or (None, why it says nothing)."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "program")
        own = map(str, (file, kind.name, kind.node, devices))
        command = [sys.executable, "-m", __name__, *own, name, *options]
        try:
            ended = subprocess.run(
                command, timeout=limit, capture_output=True, text=True, env={**os.environ, "JAX_PLATFORMS": "cpu"}
            )
        except subprocess.TimeoutExpired:
            return None, f"libtpu was not done after {limit:g} s; --limit gives it longer"
        if not file.exists():
            last = (ended.stderr.strip().splitlines() or [f"exit code {ended.returncode}"])[-1]
            return None, f"libtpu failed: {last}"
        found = pickle.loads(file.read_bytes())
    return (None, found) if isinstance(found, str) else (found, None)


def main(argv: Sequence[str]) -> None:
    file, kind_name, node, devices, name, *options = argv
    kind = dataclasses.replace(kinds.find(kind_name), node=int(node))
    run, module, path = config.make_run(name)
    run, _ = train.override(run, module, path, options)
    Path(file).write_bytes(pickle.dumps(_compiled(run, kind, int(devices))))


def _compiled(run, kind: kinds.Kind, devices: int) -> "Program | str":
    """What libtpu says, or its sentence where the program does not fit."""
    import jax

    from sadist_jax.parallel import absent
    from sadist_jax.train import program

    laid = program.trace(run, absent.tpus(kind, devices), kind)
    try:
        return program.compiled(laid, "libtpu", OPTIONS)
    except jax.errors.JaxRuntimeError as error:
        if TOO_LARGE not in str(error):
            raise
        return f"{REFUSED}: " + str(error).partition(TOO_LARGE)[2].strip(": ").partition("\n")[0]


if __name__ == "__main__":
    main(sys.argv[1:])
