"""Everything before a run's first step: hosts, directory, what never moves, the first state or where it goes on."""

import contextlib
import dataclasses
import json
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from sadist_jax import tree
from sadist_jax.data.names import first_five
from sadist_jax.errors import BadInput
from sadist_jax.parallel import agreement, hosts
from sadist_jax.train import folder, health, lock, plan, start
from sadist_jax.train import run as runs
from sadist_jax.train import state as states
from sadist_jax.train.checkpoint import Checkpoints
from sadist_jax.train.health import Streak
from sadist_jax.train.lock import Lock
from sadist_jax.train.plan import Plan
from sadist_jax.train.run import Run
from sadist_jax.train.state import State
from sadist_jax.train.stop import Asked, Stop
from sadist_jax.train.watchdog import Watchdog
from sadist_jax.typing import Params
from sadist_jax.weights.digest import digest

CONFIG, HANG = "config.json", "hang-{}.txt"  # in the directory of the run


@dataclasses.dataclass(frozen=True)
class Leg:
    """A run from a state to its end, or to where it has to go back.

    batches: of a first step. position: what the checkpoint of `state` says of the log and of the data; {} at the start.
    lowered: the learning rate is health.SLOWER times the run's, since it has gone back once.
    """

    run: Run
    job: Plan
    frozen: Params
    batches: Callable[[int], Generator[Any, None, None]]
    saved: Checkpoints
    stop: Stop
    watchdog: Watchdog
    state: State
    position: Mapping[str, Any]
    lowered: bool

    @property
    def greeting(self) -> str:
        """A sentence for people."""
        run, first = self.run, int(self.state.step)
        begun = f"goes on after step {first}" if first else "starts"
        devices = f"{self.job.mesh.size} {self.job.mesh.devices.flat[0].platform} device(s)"
        return f"{run.name} {begun}: {run.steps} steps of {run.global_batch} samples, {devices}, in {run.directory}"

    def check(self) -> None:
        """A sign of life for the watchdog. Raises `Asked` where any host was asked to stop; all must call it."""
        self.watchdog.beat()
        if hosts.any_of(self.stop.asked):
            raise Asked


def begin(run: Run, stack: contextlib.ExitStack) -> Leg:
    """Make a run ready for its next step; the stack closes what is open.

    Raises:
      BadInput: what the run describes cannot be done, or another run is at work in its directory.
      Preempted: asked to stop before there was anything to save.
    """
    runs.check(run)
    stop = stack.enter_context(Stop())
    with stop.at_once():  # the others may be long in coming
        hosts.start(run.hosts)
    stop.install()
    agreement.check(agreement.facts(runs.as_json(run)))
    job = plan_of(run)
    identity, batches = runs.stream(run, num_hosts=hosts.count(), host=hosts.index())
    frozen, identity["frozen"] = _frozen(run, job)
    values = None if run.directory.exists() else _starts(run, job)  # before: a run that is refused leaves no trace
    _leave_if_asked(stop)
    directory = _make_directory(run)
    _claim(directory, stack)
    watchdog = stack.enter_context(Watchdog(run.hang_after, directory / HANG.format(hosts.index())))
    saved = stack.enter_context(closing(Checkpoints(directory, run.checkpoint, identity, runs.as_json(run))))
    state, position = _first_state(run, job, saved, frozen, values)
    text = json.dumps(runs.as_json(run), indent=2) + "\n"
    # not before: another run's directory, refused, must stay as it is
    folder.change(directory, lambda: (directory / CONFIG).write_text(text, encoding="utf-8"))
    lowered = position.get("lowered", False)
    job = plan_of(health.slower(run)) if lowered else job
    _leave_if_asked(stop)
    return Leg(run, job, frozen, batches, saved, stop, watchdog, state, position, lowered)


def back(leg: Leg, streak: Streak) -> Leg:
    """From the last checkpoint before a streak, or from the start, at a lower learning rate: once.

    Raises:
      BadInput: it is lower already.
    """
    run, at = leg.run, leg.run.directory / health.DUMP
    folder.change(run.directory, lambda: health.dump(run, streak))
    if leg.lowered:
        raise BadInput(
            f"{streak} had no finite loss or gradient, or a spike, for the second time, at {health.SLOWER} of the "
            f"learning rate; start a run with a lower optim.lr or with optim.clip_norm from the last good state, in "
            f"{run.directory}. Their samples are in {at}"
        )
    job = plan_of(health.slower(run))
    state, position = _first_state(run, job, leg.saved, leg.frozen, None, before=streak.first)
    if hosts.index() == 0:
        print(
            f"{streak} had no finite loss or gradient, or a spike; goes back, once, to {health.SLOWER} of the "
            f"learning rate. Their samples are in {at}"
        )
    return dataclasses.replace(leg, job=job, state=state, position=position, lowered=True)


def plan_of(run: Run, devices: Sequence[Any] | None = None, memory: int | None = None, node: int | None = None) -> Plan:
    """Laid out on all devices of all hosts; or on others (train/plan.py)."""
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
        node=node,
    )


def _leave_if_asked(stop: Stop) -> None:
    if hosts.any_of(stop.asked):
        raise stop.preempted("before its next step; nothing is lost")


def _make_directory(run: Run) -> Path:
    directory = run.directory
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"--out {directory} cannot be written ({error.strerror}); choose another directory") from None
    return directory


def _claim(directory: Path, stack: contextlib.ExitStack) -> None:
    """Take the directory for this run: process 0 holds its lock, which the others must see there."""
    held, refused = Lock(directory), None
    if hosts.index() == 0:
        try:
            stack.enter_context(held)
        except BadInput as error:
            refused = error
    if hosts.any_of(refused is not None):
        raise refused or BadInput(f"process 0 could not take {directory} for this run; its own message says why")
    token = hosts.agreed(np.frombuffer(held.token, np.uint8)).astype(np.uint8).tobytes()
    if hosts.any_of(not lock.is_seen(directory, token)):
        raise BadInput(
            f"the hosts of this run do not share {directory}: not all of them see what process 0 writes there; name a "
            "directory on storage that all of them have, with --out"
        )


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


def _refuse_other_draws(run: Run, job: Plan, saved: Mapping[str, Any]) -> None:
    """Raises BadInput where another seed would draw anew what never moves, under weights that were trained on it."""
    frozen = job.layout.frozen
    given = start.overlay(run.starts, job.layout.all(), tree.flatten(frozen).keys()).keys()
    drawn = sorted(tree.flatten(frozen).keys() - given - states.brought(frozen).keys())
    if drawn and saved["seed"] != run.seed:
        raise BadInput(
            f"{run.directory} was trained with seed {saved['seed']}, by which {len(drawn)} leaves that never move were "
            f"drawn ({first_five(drawn)}); put that seed back, or choose another directory with --out"
        )


def _starts(run: Run, job: Plan) -> dict[str, np.ndarray]:
    """What of the moving leaves comes from files."""
    moving = tree.flatten(tree.merge(job.layout.params, job.layout.extra)).keys()
    return start.overlay(run.starts, job.layout.all(), moving)


def _first_state(
    run: Run, job: Plan, saved: Checkpoints, frozen: Params, values: Mapping[str, np.ndarray] | None,
    before: int | None = None,
) -> tuple[State, Mapping[str, Any]]:  # fmt: skip
    """(state, position) of the newest checkpoint, `before` a step, or of a new run; saves what will not change."""
    restored = saved.restore(job.template, accept=run.resume.accept, before=before)
    if restored is not None:
        _refuse_other_draws(run, job, restored.meta["identity"])
    saved.prepare(job.template, job.layout.split(frozen)[0])
    if restored is not None:
        return restored.state, restored.meta["position"]
    return job.create(_starts(run, job) if values is None else values), {}
