"""The command line: `sadist JOB ...` runs `main(argv)` of the file of that name in this folder.

This file imports neither JAX nor anything that does, so that `sadist --help` answers at once. Exit codes: 0 done,
1 a bug, 2 bad input, 3 the cluster, 70 nothing moved for too long, 75 asked to stop and saved, 130 interrupted.
"""

import ast
import difflib
import importlib
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

import sadist_jax
from sadist_jax.errors import CODES, BadInput, ClusterProblem, Preempted, note_exit

_HOSTS = "sadist_jax.parallel.hosts"  # where it has not been imported, nobody has connected


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the console script; returns the exit code. `argv` is without the program's name."""
    _note_early_end()
    try:
        code = _run(list(sys.argv[1:] if argv is None else argv))
    except SystemExit as end:  # of tyro: help, or an option that there is not
        note_exit(end.code if isinstance(end.code, int) else int(end.code is not None))
        raise
    except BaseException:
        note_exit(1)
        raise
    note_exit(code)
    return code


def _note_early_end() -> None:
    """A launcher that reads codes is also told of a SIGTERM before the job listens for it: nothing is lost then."""
    process, code = os.getpid(), 128 + signal.SIGTERM

    def end(*_: object) -> None:
        if os.getpid() == process:  # and not a worker that inherited this
            note_exit(code)
        os._exit(code)

    if CODES in os.environ:
        signal.signal(signal.SIGTERM, end)


def _run(argv: list[str]) -> int:
    jobs = _jobs()
    if not argv or argv[0] in ("-h", "--help"):
        print(_help(jobs))
        return 0 if argv else 2
    if argv[0] in ("-V", "--version"):
        print(f"sadist_jax {sadist_jax.__version__}")
        return 0
    if argv[0] not in jobs:
        near = difflib.get_close_matches(argv[0], jobs, n=1)
        hint = f"did you mean `sadist {near[0]}`?" if near else "`sadist --help` lists them."
        print(f"sadist: there is no job {argv[0]!r}; {hint}", file=sys.stderr)
        return 2
    use_compilation_cache()
    try:
        job = importlib.import_module(f"{__name__}.{jobs[argv[0]].stem}")
        return job.main(argv[1:]) or 0
    except Preempted as error:  # all of them, and the last may still be writing
        print(f"sadist: {error}", file=sys.stderr)
        return error.exit_code
    except (BadInput, ClusterProblem) as error:
        print(f"sadist: {error}", file=sys.stderr)
        return _failed(error.exit_code)
    except KeyboardInterrupt:
        print("sadist: interrupted", file=sys.stderr)
        return _failed(130)
    except Exception as error:
        if not _is_one_of_several():
            raise
        problem = sys.modules[_HOSTS].lost(error)
        print(f"sadist: {problem}" if problem else traceback.format_exc(), file=sys.stderr)
        return _failed(problem.exit_code if problem else 1)


def _failed(code: int) -> int:
    """The exit code; a process whose others go on ends here, and does not leave them waiting for it."""
    if _is_one_of_several():
        sys.modules[_HOSTS].leave(code)
    return code


def _is_one_of_several() -> bool:
    return _HOSTS in sys.modules and sys.modules[_HOSTS].connected()


def use_compilation_cache() -> None:
    """Keep compiled programs in ~/.cache/sadist_jax/xla unless JAX's own variables say otherwise.

    To be called before JAX is imported. JAX_ENABLE_COMPILATION_CACHE=0 switches the cache off.
    """
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(home / "sadist_jax" / "xla"))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")


def _jobs() -> dict[str, Path]:
    """{name on the command line: file}, sorted; a file whose name starts with an underscore is no job."""
    files = [file for folder in __path__ for file in Path(folder).glob("[!_]*.py")]
    return {file.stem.replace("_", "-"): file for file in sorted(files, key=lambda file: file.stem)}


def _help(jobs: dict[str, Path]) -> str:
    width = max((len(name) for name in jobs), default=0)
    lines = [f"  {name:{width}}  {_summary(file)}" for name, file in jobs.items()]
    return "\n".join(
        [
            "usage: sadist JOB [options]",
            "",
            "Distil, adapt and label with Segment Anything, in JAX.",
            "",
            "jobs:",
            *lines,
            "",
            "`sadist JOB --help` shows the options of a job; `sadist --version` the version.",
        ]
    )


def _summary(file: Path) -> str:
    """First line of the file's docstring, read without importing it."""
    docstring = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    return docstring.partition("\n")[0].rstrip(".")
