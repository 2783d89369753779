"""The loop of every run: data, step, log, checkpoint, evals, export. It never names a method."""

import contextlib
import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from sadist_jax import tree
from sadist_jax.data.names import first_five
from sadist_jax.errors import BadInput
from sadist_jax.parallel import agreement, hosts
from sadist_jax.train import optim, outcome, plan, start
from sadist_jax.train import run as runs
from sadist_jax.train import state as states
from sadist_jax.train.checkpoint import Checkpoints
from sadist_jax.train.log import Log
from sadist_jax.train.metrics import Meter
from sadist_jax.train.plan import Plan
from sadist_jax.train.run import Run
from sadist_jax.train.state import State
from sadist_jax.typing import Params
from sadist_jax.weights.digest import digest

CONFIG = "config.json"


def train(run: Run) -> Path:
    """Train from the newest checkpoint in the run's directory, or from the start, to the end; returns the directory.

    Killed at any moment and called again, it ends with the same bits as if it had not been (on the same devices).

    Raises:
      BadInput: what the run describes cannot be done, or it diverged.
    """
    runs.check(run)
    hosts.start(run.hosts)
    agreement.check(agreement.facts(runs.as_json(run)))
    job = plan_of(run)
    identity, batches = runs.stream(run, num_hosts=hosts.count(), host=hosts.index())
    frozen, identity["frozen"] = _frozen(run, job)
    values = None if run.directory.exists() else _starts(run, job)  # before: a run that is refused leaves no trace
    directory = _make_directory(run)
    with contextlib.ExitStack() as stack:
        saved = stack.enter_context(closing(Checkpoints(directory, run.checkpoint, identity, runs.as_json(run))))
        state, position = _first_state(run, job, saved, frozen, values)
        first = int(state.step)
        if hosts.index() == 0:  # not before: another run's directory, refused, must stay as it is
            (directory / CONFIG).write_text(json.dumps(runs.as_json(run), indent=2) + "\n", encoding="utf-8")
        log = Log(directory, run.log, start=first, steps=run.steps, batch=run.global_batch, process=hosts.index())
        stack.enter_context(closing(log)).note(_greeting(run, job, first))
        stream = stack.enter_context(closing(batches(first)))
        meter = Meter(run.log.every, position.get("meter"))

        for step in range(first + 1, run.steps + 1):
            batch = next(stream)
            log.samples(step, batch["index"])
            state, metrics = job.step(state, frozen, hosts.global_batch(batch, job.rows))
            _write(log, meter.push(step, metrics, batch["index"]))  # waits for the step before, while this one runs
            if meter.skipped_in_a_row >= run.max_skipped:
                raise BadInput(_diverged(run, step - 1))
            due = [e for e in run.evals if (e.every and step % e.every == 0) or step == run.steps]
            save = step % run.checkpoint.every == 0 or step == run.steps
            if due or save:
                _write(log, meter.read(last=step == run.steps))
            numbers = _evaluate(run, job, due, state, frozen)
            if numbers:
                log.write(step, numbers)
            if save:
                saved.save(state, {"meter": meter.state()}, numbers)

        outcome.export(run, job, state, frozen)
        if hosts.index() == 0:
            outcome.write_report(run)
    return directory


def plan_of(run: Run, devices: Sequence[Any] | None = None, memory: int | None = None) -> Plan:
    """Laid out on all devices of all hosts; or on others, of which JAX may use so many bytes of memory each."""
    return plan.make(
        run.method,
        steps=run.steps,
        global_batch=run.global_batch,
        seed=run.seed,
        optim=run.optim,
        freeze=run.freeze,
        mesh=run.mesh,
        shard_spec=run.shard,
        devices=devices,
        memory=memory,
    )


def _make_directory(run: Run) -> Path:
    directory = run.directory
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"--out {directory} cannot be written ({error.strerror}); choose another directory") from None
    return directory


def _frozen(run: Run, job: Plan) -> tuple[Params, str]:
    """What never moves, and a digest of what of it was not drawn here: a resumed run must find the same."""
    values = start.overlay(run.starts, job.layout.all(), tree.flatten(job.layout.frozen).keys())
    held = {name for name, leaf in tree.flatten(run.method.table()["frozen"]).items() if leaf.role == "weight"}
    drawn = sorted(held - values.keys())
    if drawn and held & values.keys():  # nothing from a file may be meant, as in a test; a part of it never is
        raise BadInput(
            f"{len(drawn)} weights that never move come from no start, and would be random: {first_five(drawn)}; let "
            "starts cover them"
        )
    return job.create_frozen(values), digest({**states.brought(job.layout.frozen), **values})


def _starts(run: Run, job: Plan) -> dict[str, np.ndarray]:
    """What of the moving leaves comes from files."""
    moving = tree.flatten(tree.merge(job.layout.params, job.layout.extra)).keys()
    return start.overlay(run.starts, job.layout.all(), moving)


def _first_state(
    run: Run, job: Plan, saved: Checkpoints, frozen: Params, values: Mapping[str, np.ndarray] | None
) -> tuple[State, Mapping[str, Any]]:
    """(state, position) of the newest checkpoint, or of a new run; saves what will not change."""
    restored = saved.restore(job.template, accept=run.resume.accept)
    saved.hold(job.layout.split(frozen)[0])
    if restored is not None:
        return restored.state, restored.meta["position"]
    return job.create(_starts(run, job) if values is None else values), {}


def _greeting(run: Run, job: Plan, first: int) -> str:
    begun = f"goes on after step {first}" if first else "starts"
    devices = f"{job.mesh.size} {job.mesh.devices.flat[0].platform} device(s)"
    return f"{run.name} {begun}: {run.steps} steps of {run.global_batch} samples, {devices}, in {run.directory}"


def _write(log: Log, line: tuple[int, dict[str, Any]] | None) -> None:
    if line is not None:
        log.train(*line)


def _diverged(run: Run, step: int) -> str:
    return (
        f"loss or gradient was not finite {run.max_skipped} steps in a row, up to step {step}; lower optim.lr or set "
        f"optim.clip_norm (the state in {run.directory} is the last good one)"
    )


def _evaluate(run: Run, job: Plan, due: list[runs.Evaluation], state: State, frozen: Params) -> dict[str, float]:
    """{"<eval>/<name>": number} of the evals that are due; their pictures go to the directory of the run."""
    numbers: dict[str, float] = {}
    for evaluation in due:
        mean = optim.average(state.opt_state) if evaluation.average else None
        params, own = job.layout.rejoin(state.params if mean is None else mean, frozen)
        found = evaluation.evaluate(job.method, params, own, state.extra)
        found = {f"{evaluation.name}/{name}": value for name, value in found.items()}
        pictures = {name: value for name, value in found.items() if np.ndim(value) == 3}
        if hosts.index() == 0:
            outcome.save_pictures(run.directory, pictures)
        numbers |= {name: float(value) for name, value in found.items() if name not in pictures}
    return numbers
