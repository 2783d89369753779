"""Checkpoints: the state by Orbax, written beside the training, and a JSON of what it belongs to.

A step either is there whole or does not count: Orbax writes to a temporary name and renames, and restoring walks back
from the newest step to the first that can be read. What cannot be read is moved to `broken/`, never deleted.
"""

import dataclasses
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as policies

from sadist_jax import tree
from sadist_jax.errors import BadInput
from sadist_jax.parallel import hosts
from sadist_jax.train.state import State
from sadist_jax.typing import Params

FOLDER, BROKEN, HELD = "checkpoints", "broken", "held"  # in the directory of the run


@dataclasses.dataclass(frozen=True)
class CheckpointSpec:
    """When to save and what to keep.

    Attributes:
      every: steps between checkpoints; the last step is always saved.
      keep: how many of the newest stay.
      best: name of an eval's number ("val/miou"); the checkpoint of its best value stays too.
      best_is: whether more or less of it is better.
    """

    every: int = 1000
    keep: int = 2
    best: str | None = None
    best_is: Literal["max", "min"] = "max"


class Restored(NamedTuple):
    state: State
    meta: dict[str, Any]


class Checkpoints:
    """The checkpoints of one run in `directory`/checkpoints.

    `identity` says what the data position means (data set, seed, global batch); `config` is kept for people.
    """

    def __init__(self, directory: Path, spec: CheckpointSpec, identity: Mapping[str, Any], config: Any):
        self.directory, self.spec = Path(directory).absolute(), spec
        self.identity, self.config = dict(identity), config
        keep: list[policies.PreservationPolicy] = [policies.LatestN(max(spec.keep, 1))]
        if spec.best is not None:
            keep.append(policies.BestN(get_metric_fn=self._value, reverse=spec.best_is == "min", n=1))
        options = ocp.CheckpointManagerOptions(
            cleanup_tmp_directories=True, preservation_policy=policies.AnyPreservationPolicy(keep)
        )
        self._manager = ocp.CheckpointManager(self.directory / FOLDER, item_names=("state", "meta"), options=options)

    def _value(self, metrics: Mapping[str, float]) -> float:
        worst = float("-inf") if self.spec.best_is == "max" else float("inf")
        return metrics.get(self.spec.best or "", worst)

    def save(self, state: State, position: Mapping[str, Any], metrics: Mapping[str, float] | None = None) -> None:
        """Save the state as of its step, unless it is there; returns when the state may be used up.

        Writing goes on in the background; what goes wrong there is raised by the next `save` or by `close`.
        """
        step = int(state.step)
        if step in self._manager.all_steps():
            return
        meta = {
            "step": step,
            "identity": self.identity,
            "config": self.config,
            "position": dict(position),
            "leaves": {name: [list(leaf.shape), str(leaf.dtype)] for name, leaf in _named(state).items()},
        }
        args = ocp.args.Composite(state=ocp.args.StandardSave(state), meta=ocp.args.JsonSave(meta))
        self._manager.save(step, args=args, metrics=dict(metrics or {}) if self.spec.best is not None else None)

    def restore(self, template: State, *, accept: bool = False) -> Restored | None:
        """The newest checkpoint that can be read, into the shapes and shardings of `template`; None if there is none.

        Raises:
          BadInput: it belongs to other data (unless `accept`) or to another model, or no checkpoint can be read.
        """
        broken: dict[int, Exception] = {}
        restored = None
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                meta = self._manager.restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore()))["meta"]
                self._check(meta, template, accept)
                args = ocp.args.Composite(state=ocp.args.StandardRestore(template))
                restored = Restored(self._manager.restore(step, args=args)["state"], meta)
                break
            except BadInput:
                raise
            except Exception as error:  # Orbax raises whatever its storage layer does
                broken[step] = error
        if broken and restored is None:
            step, error = next(iter(broken.items()))
            raise BadInput(
                f"none of the checkpoints in {self.directory / FOLDER} can be read (step {step}: {_first_line(error)}"
                "); move that folder away to start from the beginning"
            )
        if broken:
            self._set_aside(broken)
        return restored

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

    def _set_aside(self, broken: Mapping[int, Exception]) -> None:
        """Move unreadable steps away; left in place, they would be taken for the newest step again."""
        for step, error in broken.items():
            aside = self.directory / BROKEN / f"{step}-{time.time_ns()}"
            warnings.warn(f"checkpoint {step} cannot be read ({_first_line(error)}); moved to {aside}", stacklevel=3)
            if hosts.index() == 0:
                aside.parent.mkdir(exist_ok=True)
                (self.directory / FOLDER / str(step)).rename(aside)
        hosts.barrier("broken checkpoints are aside")
        self._manager.reload()

    def forget(self, after: int) -> None:
        """Delete the checkpoints of steps beyond `after`, so that these can be saved anew. Every host calls it."""
        self._manager.wait_until_finished()
        for step in self._manager.all_steps():
            if step > after:
                self._manager.delete(step)

    def close(self) -> None:
        """Wait for what is being written."""
        self._manager.wait_until_finished()
        self._manager.close()


def save_held(directory: Path, held: Params) -> None:
    """Save the parameters that a run does not move, once, beside its checkpoints."""
    if tree.flatten(held):
        with ocp.StandardCheckpointer() as writer:
            writer.save(Path(directory).absolute() / HELD, held, force=True)


def read_params(directory: Path) -> dict[str, np.ndarray]:
    """{leaf name: value} of all parameters and statistics of a run, as of its newest readable checkpoint.

    Raises:
      BadInput: there is none.
    """
    held = Path(directory).absolute() / HELD
    folder = Path(directory).absolute() / FOLDER
    steps = sorted((int(p.name) for p in folder.glob("*") if p.name.isdigit()), reverse=True)
    for step in steps:
        try:
            moved = [_read_part(folder / str(step) / "state", part) for part in ("params", "extra")]
            return moved[0] | moved[1] | (_read_part(held) if held.exists() else {})
        except Exception as error:  # as above
            warnings.warn(f"checkpoint {folder / str(step)} cannot be read ({_first_line(error)})", stacklevel=2)
    raise BadInput(f"{directory} holds neither weights nor a checkpoint that can be read; name a run that has saved")


def _read_part(path: Path, key: str | None = None) -> dict[str, np.ndarray]:
    """{leaf name: value} of a saved tree, or of its branch `key`."""
    with ocp.PyTreeCheckpointer() as reader:
        there = reader.metadata(path).item_metadata.tree
        if key is not None and not there.get(key):
            return {}  # an empty tree
        there = there if key is None else {key: there[key]}
        plain = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), there)
        found = reader.restore(path, args=ocp.args.PyTreeRestore(there, plain, partial_restore=True))
        return tree.flatten(found if key is None else found[key])


def _named(state: Any) -> dict[str, Any]:
    paths = jax.tree_util.tree_flatten_with_path(state)[0]
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in paths}


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0][:200]}"
