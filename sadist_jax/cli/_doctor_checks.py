"""What `sadist doctor` looks at on one host, by itself: nothing here waits for another host."""

import contextlib
import math
import os
import resource
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import numpy as np

from sadist_jax.data.sample import Reader, Unreadable
from sadist_jax.errors import BadInput
from sadist_jax.parallel import agreement, devices, hosts
from sadist_jax.train import begin
from sadist_jax.train import run as runs
from sadist_jax.train.run import Run

State = Literal["ok", "warning", "failed"]
ACCELERATORS = {"/dev/nvidia0": "cuda12", "/dev/kfd": "rocm", "/dev/accel0": "tpu", "/dev/vfio/0": "tpu"}
PROBE = 2**20  # bytes written to a disk and read back
OPEN_FILES = 1024  # data workers, checkpoints written in parallel, and a connection for each process on process 0
_SAMPLES = 3


class Finding(NamedTuple):
    """What a check found, in a sentence that says what to do where it is not ok."""

    check: str
    state: State
    sentence: str


Verdict = tuple[State, str]


def examined(check: str, look: Callable[[], Verdict]) -> Finding:
    """What `look` says, or what stopped it: a check never ends the others, and no host leaves the others waiting."""
    try:
        return Finding(check, *look())
    except BadInput as error:
        return Finding(check, "failed", str(error))
    except Exception as error:
        return Finding(check, "failed", f"{type(error).__name__}: {error}")


def of_machine() -> list[Finding]:
    """The checks that need no run."""
    return [
        examined("devices", _devices),
        examined("software", _software),
        examined("open files", _open_files),
        examined("cache", _cache),
    ]


def of_run(run: Run) -> list[Finding]:
    """The checks of a run's directory and data."""
    opened: list[Reader] = []
    found = [
        examined("directory", lambda: _directory(run)),
        examined("room", lambda: _room(run)),
        examined("data", lambda: _data(run, opened)),
    ]
    return [*found, examined("samples", lambda: _samples(run, opened[0]))] if opened else found


def _devices() -> Verdict:
    local = devices.own()
    found = f"{len(local)} x {local[0].device_kind} ({local[0].platform})"
    idle = [extra for file, extra in ACCELERATORS.items() if local[0].platform == "cpu" and Path(file).exists()]
    if idle and "cpu" not in os.environ.get("JAX_PLATFORMS", ""):
        return "warning", f"{found}, but this host has an accelerator; install jax[{idle[0]}] to use it"
    return "ok", found


def _software() -> Verdict:
    known = agreement.facts()
    names = ("sadist_jax", "code", "python", *agreement.PACKAGES)
    return "ok", ", ".join(f"{name} {known[name]}" for name in names)


def _open_files() -> Verdict:
    limit, needed = resource.getrlimit(resource.RLIMIT_NOFILE)[0], OPEN_FILES + hosts.count() - 1
    if limit != resource.RLIM_INFINITY and limit < needed:
        return "warning", f"{limit} at a time may be too few; raise the limit with `ulimit -n {4 * needed}`"
    return "ok", "no limit" if limit == resource.RLIM_INFINITY else f"{limit} at a time"


def _cache() -> Verdict:
    settings: Any = jax.config
    folder = settings.jax_compilation_cache_dir
    if not folder or not settings.jax_enable_compilation_cache:
        return "ok", "switched off"
    if "://" in folder:
        return "ok", f"{folder}, not tried"
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        _write_and_read(Path(folder), 1)
    except OSError as error:
        return "warning", (
            f"{folder} cannot be written ({error.strerror}), so every start compiles anew; set "
            "JAX_COMPILATION_CACHE_DIR to another folder"
        )
    return "ok", folder


def existing(folder: Path) -> Path:
    """The folder, or the nearest above it that is there: looking at a run's directory must not make it."""
    return next(path for path in (folder, *folder.parents) if path.exists())


def _directory(run: Run) -> Verdict:
    folder = existing(run.directory)
    if not folder.is_dir():
        raise BadInput(f"--out {run.directory} cannot be: {folder} is a file; choose another directory")
    try:
        seconds = _write_and_read(folder, PROBE)
    except OSError as error:
        raise BadInput(
            f"--out {run.directory} cannot be written ({error.strerror}); choose another directory"
        ) from None
    return "ok", f"{folder}: {PROBE // 2**20} MiB written, synced and read back in {1000 * seconds:.0f} ms"


def _write_and_read(folder: Path, size: int) -> float:
    """Seconds for it. Raises OSError, BadInput where other bytes come back."""
    content, begun = os.urandom(size), time.perf_counter()
    with probe(folder) as file:
        with file.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        if file.read_bytes() != content:
            raise BadInput(f"{folder} gives other bytes than were written; do not use that drive")
    return time.perf_counter() - begun


@contextlib.contextmanager
def probe(folder: Path) -> Iterator[Path]:
    """A name in the folder that nobody else has; what is written there goes."""
    file = folder / f".sadist-doctor-{uuid.uuid4().hex}"
    try:
        yield file
    finally:
        with contextlib.suppress(OSError):
            file.unlink()


def _room(run: Run) -> Verdict:
    """Free space against what the run will write: checkpoints, one of them on its way, and exported parameters."""
    runs.check(run)
    job = begin.plan_of(run)
    state, params = nbytes(job.template), nbytes(job.template.params)
    spec = run.checkpoint
    copies = max(spec.keep, 1) + (spec.best is not None) + 1
    copies += run.steps // spec.keep_every if spec.keep_every > 0 else 0
    folder = existing(run.directory)
    there = sum(file.stat().st_size for file in run.directory.rglob("*") if file.is_file())
    needed = max(copies * state + 2 * params - there, state)
    free = shutil.disk_usage(folder).free
    what = f"{_size(needed)} for {copies} checkpoints of {_size(state)} and the weights"
    if free < needed:
        raise BadInput(
            f"{folder} has {_size(free)} free, and the run needs {what}; make room, choose another --out, or lower "
            "checkpoint.keep"
        )
    return "ok", f"{_size(free)} free, {what} needed"


def nbytes(tree: Any) -> int:
    """Of all arrays of a tree of shapes, whole."""
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def _size(count: int) -> str:
    return f"{count / 2**30:,.1f} GiB" if count >= 2**30 else f"{count / 2**20:,.1f} MiB"


def _data(run: Run, opened: list[Reader]) -> Verdict:
    reader = run.data.source.open()
    if check := getattr(run.data.transform, "check", None):
        check(reader)
    opened.append(reader)
    return "ok", f"{len(reader):,} samples, fingerprint {reader.digest()[:16]}"


def _samples(run: Run, reader: Reader) -> Verdict:
    """The first, the middle and the last sample, read and prepared as for training."""
    places = sorted({place * (len(reader) - 1) // (_SAMPLES - 1) for place in range(_SAMPLES)})
    damaged, begun = [], time.perf_counter()
    for place in places:
        try:
            run.data.transform(reader[place], np.random.default_rng(place))
        except Unreadable as error:
            damaged.append(str(error))
    if len(damaged) == len(places):
        raise BadInput(f"none of {len(places)} samples can be read, the last: {damaged[-1]}; repair the data")
    if damaged:
        return "warning", f"{len(damaged)} of {len(places)} cannot be read: {damaged[0]}; repair it, or it is left out"
    each = (time.perf_counter() - begun) / len(places)
    return "ok", f"{_listed(map(reader.name, places))}: {1000 * each:.0f} ms each"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)
