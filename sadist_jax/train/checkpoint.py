"""Checkpoints: the state by Orbax, written beside the training, and a JSON of what it belongs to.

A checkpoint counts when its manifest says that it is whole (`manifest.py`): process 0 digests every file in the
background before the folder gets its name, and restoring compares before it reads, which is one read of the files more,
shared among the hosts. Restoring goes back from the newest step to the first that is whole on every host; what is newer
and is not goes to `broken/`, never deleted. The position in the data is step times global batch, so a checkpoint may be
restored by any number of hosts and devices.
"""

import dataclasses
import math
import shutil
import tempfile
import warnings
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import orbax.checkpoint as ocp

from sadist_jax import tree
from sadist_jax.errors import BadInput
from sadist_jax.parallel import hosts
from sadist_jax.train import folder, manifest
from sadist_jax.train.saved_params import is_held, save_held
from sadist_jax.train.state import State
from sadist_jax.train.writer import Writer, first_line
from sadist_jax.typing import Params


@dataclasses.dataclass(frozen=True)
class CheckpointSpec:
    """When to save and what to keep.

    Attributes:
      every: steps between checkpoints; the last step is always saved.
      keep: how many of the newest stay.
      keep_every: checkpoints of steps that this divides stay too; 0: of none.
      best: name of an eval's number ("val/miou"); the checkpoint of its best value stays too.
      best_is: whether more or less of it is better.
    """

    every: int = 1000
    keep: int = 2
    keep_every: int = 0
    best: str | None = None
    best_is: Literal["max", "min"] = "max"


class Restored(NamedTuple):
    state: State
    meta: dict[str, Any]


class Checkpoints:
    """The checkpoints of one run in `directory`/checkpoints. Every host calls every method, except where one says so.

    `identity` says what the data position means (data set, seed, global batch); `config` is kept for people.
    """

    def __init__(self, directory: Path, spec: CheckpointSpec, identity: Mapping[str, Any], config: Any):
        self.directory, self.spec = Path(directory).absolute(), spec
        self.identity, self.config = dict(identity), config
        self._writer = Writer()
        self._there: set[int] = set()  # steps that need no saving, the same on every host

    def prepare(self, template: State, held: Params) -> None:
        """Save the parameters that the run does not move, unless they are there.

        Raises BadInput now where this or the first save of a state would fail: no writing there, or not space enough.
        """
        there = is_held(self.directory, held, self.identity)
        folder.change(self.directory, partial(self._make_room, _size(template) + (0 if there else _size(held))))
        if not there:
            save_held(self.directory, held, self.identity)

    def save(self, state: State, position: Mapping[str, Any], metrics: Mapping[str, float] | None = None) -> None:
        """Save the state as of its step; returns when the state may be used up. Writing goes on in the background.

        A step that is there already gets the position, and the metrics if there are any, and keeps its state.

        Raises:
          BadInput: this save cannot begin, or the one before could not be written; on every host, whichever failed.
        """
        step, told = int(state.step), {"position": dict(position), **({"metrics": dict(metrics)} if metrics else {})}
        self.settle()
        if step in self._there:
            where = folder.step(self.directory, step)
            return folder.change(self.directory, partial(folder.tell_later, where, told))
        folder.change(self.directory, partial(self._make_room, _size(state), step))
        meta = {
            "step": step,
            "identity": self.identity,
            "config": self.config,
            "metrics": {},
            **told,
            "leaves": {name: [list(leaf.shape), str(leaf.dtype)] for name, leaf in _named(state).items()},
        }
        self._writer.begin(
            folder.step(self.directory, step), state=ocp.args.StandardSave(state), meta=ocp.args.JsonSave(meta)
        )
        self._there.add(step)

    def settle(self) -> None:
        """Wait for what is being written, then delete what the policy does not keep. For the end of a run, and `save`.

        Raises:
          BadInput: it could not be written; on every host, whichever failed.
        """
        self._writer.settle()
        if self._there and hosts.index() == 0:  # not before restoring has found a whole one
            self._delete_old()

    def close(self) -> None:
        """Wait for what this host is writing. No collective call: it may follow an error that other hosts do not have.

        Raises:
          BadInput: it could not be written, and nothing has said so yet.
        """
        if self._writer.close() and hosts.index() == 0:
            self._delete_old()

    def restore(self, template: State, *, accept: bool = False, before: int | None = None) -> Restored | None:
        """The newest checkpoint that is whole, into the shapes and shardings of `template`; None if there is none.

        With `before` it is of a step before that one, and the run's later checkpoints are deleted once it is there:
        their steps are to be done anew.

        Raises:
          BadInput: it belongs to other data (unless `accept`) or to another model, or no checkpoint is whole.
        """
        self._writer.settle()
        steps, broken = [step for step in folder.steps(self.directory) if before is None or step < before], {}
        while (step := hosts.least(max(steps, default=-1))) >= 0:
            where = folder.step(self.directory, step)
            problem = _on_all(manifest.problem(where, hosts.index(), hosts.count()))
            found = self._read(step, template, accept) if problem is None else None
            if hosts.any_of(isinstance(found, BadInput)):
                raise found if isinstance(found, BadInput) else BadInput(f"another host refuses {where}; see its log")
            problem = problem or _on_all(first_line(found) if isinstance(found, Exception) else None)
            if isinstance(found, Restored) and problem is None:
                self._there = {step}
                folder.change(self.directory, partial(self._tidy, step, broken, before))
                return found
            found = None  # two states at a time may be more than the devices hold
            broken[step] = problem
            steps = [other for other in steps if other < step]
        if hosts.any_of(bool(broken or steps)):
            step, why = next(iter(broken.items()), (None, "not every host sees it; do they share the directory?"))
            raise BadInput(
                f"none of the checkpoints in {self.directory / folder.CHECKPOINTS} can be read (step {step}: {why}); "
                "move that folder away to start from the beginning"
            )
        self._there = set()
        folder.change(self.directory, partial(self._tidy, -1, {}, before))
        return None

    def _read(self, step: int, template: State, accept: bool) -> Restored | Exception:
        """A checkpoint whose files are as they were written. Errors are returned: other hosts wait for a word."""
        where = folder.step(self.directory, step)
        try:
            meta = folder.meta(where)
            self._check(meta, template, accept)
            reader: Any = ocp.StandardCheckpointHandler()  # typed for paths of another library, it takes any
            args = ocp.args.StandardRestore(template)
            return Restored(reader.restore(where / "state", args=args), meta)
        except Exception as error:  # Orbax raises whatever its storage layer does
            return error

    def _check(self, meta: Mapping[str, Any], template: State, accept: bool) -> None:
        saved, now = meta["identity"], self.identity
        changed = [f"{k} {saved.get(k)!r} -> {now.get(k)!r}" for k in {**saved, **now} if saved.get(k) != now.get(k)]
        if changed and not accept:
            raise BadInput(
                f"{self.directory} was trained on other samples ({', '.join(changed)}); put these back, choose another "
                "directory with --out, or go on all the same with --resume.accept"
            )
        leaves = {name: (leaf.shape, str(leaf.dtype)) for name, leaf in _named(template).items()}
        problems = tree.difference(
            {n: s for n, (s, _) in leaves.items()}, {n: s for n, (s, _) in meta["leaves"].items()}
        )
        other = [n for n, (_, d) in leaves.items() if n in meta["leaves"] and meta["leaves"][n][1] != d]
        problems += "".join(f"\nwrong type: {n} is {meta['leaves'][n][1]}, must be {leaves[n][1]}" for n in other)
        if problems:
            raise BadInput(
                f"the checkpoint of {self.directory} at step {meta['step']} belongs to another model or optimiser; "
                f"choose another directory with --out:\n{problems.strip()}"
            )

    def _tidy(self, restored: int, broken: Mapping[int, str | None], before: int | None) -> None:
        """Move away what is newer than the restored step; left there, it would be taken for the newest again."""
        late = [] if before is None else [step for step in self._of_this_run() if step >= before]
        for step in late:
            folder.delete(folder.step(self.directory, step))
        for step in folder.steps(self.directory):
            if step > restored:
                aside = folder.set_aside(self.directory, folder.step(self.directory, step))
                why = broken.get(step) or "not every host sees it"
                warnings.warn(f"checkpoint {step} cannot be read ({why}); moved to {aside}", stacklevel=6)
        folder.clear(self.directory)

    def _make_room(self, size: int, step: int | None = None) -> None:
        """See that `size` bytes can be written, and that nothing is in the place of a new step."""
        where = self.directory / folder.CHECKPOINTS
        where.mkdir(parents=True, exist_ok=True)
        if step is not None and folder.step(self.directory, step).exists():
            aside = folder.set_aside(self.directory, folder.step(self.directory, step))
            warnings.warn(f"checkpoint {step} is not of this run; moved to {aside}", stacklevel=6)
        with tempfile.TemporaryFile(dir=where, buffering=0) as probe:
            probe.write(b"0")
        total, _, free = shutil.disk_usage(where)
        if total and free < size:
            raise BadInput(
                f"{where} has {free / 1e6:.0f} MB left, too little for a checkpoint of {size / 1e6:.0f} MB; free space "
                "or choose another directory with --out"
            )

    def _of_this_run(self) -> list[int]:
        """Steps whose folders have a manifest: what has none was put there by somebody else."""
        steps = folder.steps(self.directory)
        return [step for step in steps if (folder.step(self.directory, step) / manifest.NAME).exists()]

    def _delete_old(self) -> None:
        """Delete checkpoints that the policy does not keep."""
        there = self._of_this_run()
        kept = set(there[-max(self.spec.keep, 1) :])
        kept |= {next((step for step in reversed(there) if self._is_sound(step)), -1)}
        if self.spec.keep_every > 0:
            kept |= {step for step in there if step % self.spec.keep_every == 0}
        if self.spec.best is not None:
            values = [(value, step) for step in there if (value := self._value(step, self.spec.best)) is not None]
            kept |= {step for _, step in sorted(values)[-1:]}
        for step in set(there) - kept:
            try:
                folder.delete(folder.step(self.directory, step))
            except OSError as error:
                warnings.warn(f"the old checkpoint {step} cannot be deleted ({error})", stacklevel=4)

    def _is_sound(self, step: int) -> bool:
        """Whether no streak of steps that changed nothing (health.py) was under way: what a run goes back to."""
        try:
            return not folder.meta(folder.step(self.directory, step))["position"].get("meter", {}).get("skipped")
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return False

    def _value(self, step: int, name: str) -> float | None:
        """The number `name` of a checkpoint, negated where less is better; None where there is none."""
        try:
            value = float(folder.meta(folder.step(self.directory, step))["metrics"][name])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return None if math.isnan(value) else value if self.spec.best_is == "max" else -value


def _on_all(problem: str | None) -> str | None:
    """This host's problem, or word of another host's; None where no host has one. Every host calls it."""
    if hosts.any_of(problem is not None):
        return problem or "another host's log says why"
    return None


def _size(state: Any) -> int:
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))


def _named(state: Any) -> dict[str, Any]:
    paths = jax.tree_util.tree_flatten_with_path(state)[0]
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in paths}
