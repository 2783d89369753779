"""The loop of every run: data, step, log, checkpoint, evals, export. It never names a method."""

import contextlib
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from sadist_jax.parallel import hosts
from sadist_jax.train import begin, optim, outcome, pulse
from sadist_jax.train.begin import Leg
from sadist_jax.train.health import Streak
from sadist_jax.train.log import Log
from sadist_jax.train.metrics import Meter
from sadist_jax.train.run import Evaluation, Run
from sadist_jax.train.state import State
from sadist_jax.train.step import STOP
from sadist_jax.train.stop import Asked


def train(run: Run) -> Path:
    """Train from the newest checkpoint in the run's directory, or from the start, to the end; returns the directory.

    Killed or asked to stop at any moment and called again, it ends with the same bits as if it had not been (on the
    same devices).

    Raises:
      BadInput: what the run describes cannot be done, or it diverged.
      Preempted: SIGTERM came, and everything is saved.
    """
    with contextlib.ExitStack() as stack:
        leg = begin.begin(run, stack)
        while True:
            try:
                state = _steps(leg)
                break
            except Streak as streak:
                leg = begin.back(leg, streak)
        leg.saved.settle()
        outcome.export(run, leg.job, state, leg.frozen)
        leg.watchdog.beat()
        if hosts.index() == 0:
            outcome.write_report(run)
    return run.directory


def _steps(leg: Leg) -> State:
    """Do every step that is left; returns the last state.

    Raises:
      Streak: too many steps in a row changed nothing.
    """
    run, job, state, first = leg.run, leg.job, leg.state, int(leg.state.step)
    owed = leg.position.get("owed", False)
    with contextlib.ExitStack() as stack:
        log = Log(
            run.directory,
            run.log,
            start=first,
            steps=run.steps,
            batch=run.global_batch,
            process=hosts.index(),
            processes=hosts.count(),
            owed=owed,
        )
        stack.enter_context(closing(log)).note(leg.greeting)
        meter = Meter(run.log.every, leg.position.get("meter"), run.max_skipped)
        if owed:
            _between(leg, first, state, log, meter, owed=True)
        stream = stack.enter_context(closing(leg.batches(first)))
        leg.watchdog.expect_compile()

        for step in range(first + 1, run.steps + 1):
            batch = next(stream)
            log.samples(step, batch["index"])
            flags = np.full(len(batch["index"]), leg.stop.asked, np.float32)
            rows = hosts.global_batch({**batch, STOP: flags}, job.rows)
            state, metrics = job.step(state, leg.frozen, rows)
            _write(log, meter.push(step, metrics, batch["index"]))  # waits for the step before, while this one runs
            _between(leg, step, state, log, meter)
    return state


def _between(leg: Leg, step: int, state: State, log: Log, meter: Meter, owed: bool = False) -> None:
    """What is due between a step and the next: evals, a checkpoint, the end where that was asked for.

    All hosts leave after the same step, since they read the same flags, of a step before. Evals that a stop has cut
    short are not logged; the checkpoint says that they are owed, and they come first when the run goes on.

    Raises:
      Preempted: asked to stop, and saved.
    """
    run, saved = leg.run, leg.saved
    leg.watchdog.beat()
    leg.stop.keep()
    due = [e for e in run.evals if (e.every and step % e.every == 0) or step == run.steps]
    ordinary = step % run.checkpoint.every == 0 or step == run.steps
    leaving = meter.asked or (leg.stop.asked and hosts.count() == 1)
    if not (due or ordinary or leaving):
        return
    _write(log, meter.read(last=step == run.steps))
    position = {"meter": meter.state(), "lowered": leg.lowered}
    try:
        numbers = _evaluate(leg, due, state)
    except Asked:
        numbers, leaving, position = {}, True, {**position, "owed": True}
    if numbers:
        log.write(step, numbers)
    if ordinary or leaving or owed:
        saved.save(state, position, numbers if ordinary else None)
    leg.watchdog.beat()
    if leaving:
        saved.settle()
        raise leg.stop.preempted(f"after step {step}, which is saved in {run.directory}")


def _write(log: Log, line: tuple[int, dict[str, Any]] | None) -> None:
    if line is not None:
        log.train(*line)


def _evaluate(leg: Leg, due: list[Evaluation], state: State) -> dict[str, float]:
    """{"<eval>/<name>": number} of the evals that are due; their pictures go to the directory of the run.

    Raises:
      Asked: to stop, before they were done.
    """
    job, numbers = leg.job, {}
    with pulse.listening(leg.check):
        for evaluation in due:
            pulse.beat()
            mean = optim.average(state.opt_state) if evaluation.average else None
            params, own = job.layout.rejoin(state.params if mean is None else mean, leg.frozen)
            found = evaluation.evaluate(job.method, params, own, state.extra)
            found = {f"{evaluation.name}/{name}": value for name, value in found.items()}
            pictures = {name: value for name, value in found.items() if np.ndim(value) == 3}
            if hosts.index() == 0:
                outcome.save_pictures(leg.run.directory, pictures)
            numbers |= {name: float(value) for name, value in found.items() if name not in pictures}
    return numbers
