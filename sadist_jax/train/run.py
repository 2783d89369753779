"""A run, written down: what a config file returns and what the command line overrides."""

import dataclasses
import hashlib
import json
import math
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sadist_jax.data import pipeline
from sadist_jax.data.quarantine import Quarantine
from sadist_jax.errors import BadInput
from sadist_jax.parallel.hosts import HostSpec
from sadist_jax.parallel.mesh import MeshSpec
from sadist_jax.parallel.shard import ShardSpec
from sadist_jax.train.checkpoint import CheckpointSpec
from sadist_jax.train.log import LogSpec
from sadist_jax.train.optim import Optim
from sadist_jax.train.start import Start


@dataclasses.dataclass(frozen=True)
class Data:
    """Where the samples come from and how they are prepared.

    Attributes:
      source: a source of sadist_jax.data (Folder, CocoInstances, ...); opened when the run starts.
      transform: sample -> row of the batch (SamiCrops, ...).
      workers: processes that prepare batches; 0: threads of the main process. The samples do not depend on it.
      shuffle: a new order every epoch.
      max_bad_fraction: damaged samples are listed in quarantine.jsonl and replaced up to this fraction of the source.
    """

    source: Any
    transform: Any
    workers: int = 0
    shuffle: bool = True
    max_bad_fraction: float = 0.01


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """A look at the model in between: `evaluate(method, params, frozen, extra) -> {name: number or picture}`.

    Done every `every` steps (0: never in between) and after the last. Numbers are logged as "<name>/<name of the
    number>"; pictures (H, W, 3) uint8 are kept, the newest of each name, for the report. `average`: of the averaged
    parameters (Optim.ema) instead of the latest. Every host calls it, with the same weights, and must make the same
    collective calls. One that takes minutes calls `pulse.beat()` between its images, on all hosts alike.
    """

    name: str
    every: int
    evaluate: Callable[..., Mapping[str, Any]]
    average: bool = False


@dataclasses.dataclass(frozen=True)
class Resume:
    """accept: go on from a checkpoint even if data set, batch size, seed or frozen weights have changed since."""

    accept: bool = False


@dataclasses.dataclass(frozen=True)
class Run:
    """One stage of training.

    Attributes:
      name: of the run, and of its directory.
      method: what to optimise (a dataclass of sadist_jax.methods).
      data: what to learn from.
      steps: optimiser steps.
      global_batch: samples a step, over all hosts, devices and micro-batches.
      out: directory of the run; runs/<name> if None. A run that finds its own checkpoint there goes on from it.
      seed: of the first weights, the order of the samples, and all randomness in the step.
      starts: where weights come from; leaves that none of them covers are initialised.
      freeze: patterns of parameters that stay as they start.
      evals: what to look at in between.
      max_skipped: after so many steps in a row without a finite loss and gradient (or with spikes, Optim.spike) go back
        to the last checkpoint before them, once, at half the learning rate; the second time stop.
      hang_after: seconds without the end of a step, a save or an eval (of one image, where the eval says so:
        train/pulse.py), after which the run writes down where it hangs and ends with exit code 70; four times as long
        for the first step, which is compiled; 0: never.
    """

    name: str
    method: Any
    data: Data
    steps: int
    global_batch: int
    out: str | None = None
    seed: int = 0
    optim: Optim = dataclasses.field(default_factory=Optim)
    starts: tuple[Start, ...] = ()
    freeze: tuple[str, ...] = ()
    evals: tuple[Evaluation, ...] = ()
    checkpoint: CheckpointSpec = dataclasses.field(default_factory=CheckpointSpec)
    log: LogSpec = dataclasses.field(default_factory=LogSpec)
    resume: Resume = dataclasses.field(default_factory=Resume)
    mesh: MeshSpec = dataclasses.field(default_factory=MeshSpec)
    shard: ShardSpec = dataclasses.field(default_factory=ShardSpec)
    hosts: HostSpec = dataclasses.field(default_factory=HostSpec)
    max_skipped: int = 10
    hang_after: float = 1800.0

    @property
    def directory(self) -> Path:
        return Path(self.out or Path("runs", self.name)).absolute()


def stream(
    run: Run, *, num_hosts: int = 1, host: int = 0
) -> tuple[dict[str, Any], Callable[[int], Generator[Any, None, None]]]:
    """(identity of the run's samples, function of the first step -> this host's batches). Opens the source."""
    data, reader = run.data, run.data.source.open()
    if check := getattr(data.transform, "check", None):  # what would else stop a run hours later
        check(reader)
    identity = pipeline.fingerprint(reader, seed=run.seed, global_batch=run.global_batch, shuffle=data.shuffle)
    identity["transform"] = hashlib.sha256(json.dumps(as_json(data.transform)).encode()).hexdigest()[:12]
    name = "quarantine.jsonl" if host == 0 else f"quarantine-{host}.jsonl"
    quarantine = Quarantine(str(run.directory / name), data.max_bad_fraction)

    def batches(start_step: int) -> Generator[Mapping[str, np.ndarray], None, None]:
        yield from pipeline.batches(
            reader,
            data.transform,
            seed=run.seed,
            global_batch=run.global_batch,
            start_step=start_step,
            num_hosts=num_hosts,
            host=host,
            workers=data.workers,
            shuffle=data.shuffle,
            quarantine=quarantine,
        )

    return identity, batches


def check(run: Run) -> None:
    """Raises BadInput for numbers that cannot be: what is wrong with names shows when they are used."""
    positive = {
        "steps": run.steps,
        "global_batch": run.global_batch,
        "optim.accumulate": run.optim.accumulate,
        "checkpoint.every": run.checkpoint.every,
        "log.every": run.log.every,
        "max_skipped": run.max_skipped,
    }
    for name, value in positive.items():
        if value < 1:
            raise BadInput(f"{name} is {value}; it must be 1 or more")
    if run.out is not None and "://" in run.out:
        raise BadInput(f"--out {run.out} is no path; mount the bucket, and name a directory in it")
    if not run.hang_after >= 0:
        raise BadInput(f"hang_after is {run.hang_after}; it must be 0 (never) or more")
    _check_best(run)


def _check_best(run: Run) -> None:
    """The number that chooses a checkpoint must be measured where one is saved."""
    if (best := run.checkpoint.best) is None:
        return
    evals = {evaluation.name: evaluation for evaluation in run.evals}
    if (name := best.partition("/")[0]) not in evals:
        raise BadInput(
            f"checkpoint.best is {best!r}, but the run has no eval {name!r}; there are {', '.join(evals) or 'none'}"
        )
    every = evals[name].every
    if not every or math.lcm(every, run.checkpoint.every) > run.steps:
        raise BadInput(
            f"checkpoint.best is {best!r}, of an eval every {every} steps, where none is saved before the last step: "
            f"checkpoint.every is {run.checkpoint.every}; let one divide the other"
        )


def as_json(value: Any) -> Any:
    """The run as JSON can hold it: dataclasses become {"class": name, field: value, ...}, functions their name.

    Fields that a dataclass leaves out of its repr (arrays) are left out here too.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: as_json(getattr(value, f.name)) for f in dataclasses.fields(value) if f.repr}
        return {"class": type(value).__qualname__, **fields}
    if isinstance(value, Mapping):
        return {str(key): as_json(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(v) for v in value]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    return getattr(value, "__qualname__", None) or str(value)
