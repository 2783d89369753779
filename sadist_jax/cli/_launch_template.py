"""The files of launch/ with a run's own values in them, and the program that takes what comes out."""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sadist_jax.errors import BadInput

_ROOT = Path(__file__).parents[1]
SHIPPED = (_ROOT / "launch", _ROOT.parent / "launch")  # in the wheel, in a checkout


def fill(name: str, values: Mapping[str, str]) -> str:
    """The file of launch/ of this name, values[key] for every @{key}; a line that this leaves empty is left out."""
    path = next((folder / name for folder in SHIPPED if (folder / name).is_file()), None)
    if path is None:
        raise BadInput(f"launch/{name} is not beside the package; install sadist_jax again, from a wheel or a checkout")
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        filled = re.sub(r"@\{([a-z_]+)\}", lambda found: values[found[1]], line)
        if filled.strip() or not line.strip():
            lines.append(f"{filled}\n")
    return "".join(lines)


def shell(words: Sequence[str]) -> str:
    """Words of a command as a shell reads them back, whatever is in them."""
    return shlex.join(words)


def yaml(value: Any) -> str:
    """A value as YAML reads it back: JSON, which is YAML."""
    return json.dumps(value, ensure_ascii=False)


def out_of(job: Sequence[str]) -> str | None:
    """The folder that the words of a job name with --out, the last one where there are several."""
    found = None
    for at, word in enumerate(job):
        option, given, value = word.partition("=")
        if option == "--out":
            found = value if given else next(iter(job[at + 1 : at + 2]), None)
    return found


def show(text: str, command: Sequence[str]) -> int:
    """Print what `hand_over` would hand over; the hint goes to standard error: `> FILE` has the text alone."""
    print(text, end="")
    print(f"nothing was started; --submit gives this to `{shell(command)}`", file=sys.stderr)
    return 0


def hand_over(text: str, command: Sequence[str]) -> int:
    """Run `command` with the text as its standard input; returns its exit code."""
    try:
        return subprocess.run(command, input=text, text=True, check=False).returncode
    except FileNotFoundError:
        raise BadInput(
            f"--submit runs {command[0]}, which is not on this machine; go where it is, or leave --submit out and take "
            "the printed text there"
        ) from None
