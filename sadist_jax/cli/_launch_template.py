"""The files of launch/ with a run's own values in them, and the program that takes what comes out."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, Protocol

from sadist_jax.errors import BadInput
from sadist_jax.train import config

_ROOT = Path(__file__).parents[1]
SHIPPED = (_ROOT / "launch", _ROOT.parent / "launch")  # in the wheel, in a checkout


class Options(Protocol):
    """What those of every place have."""

    @property
    def submit(self) -> bool: ...

    @property
    def dry_run(self) -> bool: ...


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


def refuse_own_config(job: Sequence[str], folder: str, shared: str) -> None:
    """Raises BadInput where a job's config is a file of this machine alone.

    A relative path is one on the hosts, where the job starts in `folder` and has `shared` below it; an absolute one,
    and that of a config of the package, means the same here and there.
    """
    name = job[1].partition(":")[0] if len(job) > 1 else ""
    path = Path(name)
    if path.is_absolute() or path.parts[:1] == (shared,) or not path.is_file():
        return
    if any(path.resolve().parent == folder.resolve() for folder in config.SHIPPED):
        return
    raise BadInput(
        f"the config {name} is a file of this machine, which the hosts do not have; put it, with the files that it "
        f"imports, into the folder that they share, and name it as they see it: {shared}/{path.name} "
        f"(of {folder}), or an absolute path"
    )


def as_input(text: str, command: Sequence[str]) -> int:
    """Run `command` with the text as its standard input; returns its exit code."""
    return subprocess.run(command, input=text, text=True, check=False).returncode


def in_place(text: str, command: Sequence[str]) -> NoReturn:
    """Run `command` with the text as its last word, instead of this process: a signal to this one is one to it."""
    sys.stdout.flush()
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)  # or what it starts, such as ssh, would read what is typed
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # which Python ignores, and its children would
    os.execvp(command[0], [*command, text])


def show_or_hand_over(
    text: str, command: Sequence[str], options: Options, hand_over: Callable[[str, Sequence[str]], int] = as_input
) -> int:
    """Give the text to `command` with --submit, as standard input if not otherwise; else print it. The exit code.

    The hint goes to standard error: `> FILE` has the text alone.
    """
    if options.submit and not options.dry_run:
        try:
            return hand_over(text, command)
        except FileNotFoundError:
            raise BadInput(
                f"--submit runs {command[0]}, which is not on this machine; go where it is, or leave --submit out and "
                "take the printed text there"
            ) from None
    print(text, end="")
    print(f"nothing was started; --submit gives this to `{shell(command)}`", file=sys.stderr)
    return 0
