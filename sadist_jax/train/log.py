"""What a run leaves for people and tests: metrics.jsonl is the truth; the terminal and TensorBoard only show it."""

import dataclasses
import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import rich.progress
from rich.console import Console

from sadist_jax.errors import BadInput
from sadist_jax.train.collapse import Collapse

METRICS, SAMPLES = "metrics.jsonl", "samples.jsonl"
_OTHERS = "samples-{}.jsonl"  # of process 1 and up
_SPEED = "samples_per_second"  # in a line of training, and in no other


@dataclasses.dataclass(frozen=True)
class LogSpec:
    """A line every so many steps; `samples`: write every step's sample positions; `tensorboard`: its files too."""

    every: int = 50
    samples: bool = False
    tensorboard: bool = False


class Lines:
    """A file of JSON objects, one a line, each with a "step". Opening drops those beyond `step`: they come again.

    owed: so do those of `step` itself that are no line of training: its evals.
    """

    def __init__(self, path: Path, step: int, owed: bool = False):
        if path.exists():
            _truncate(path, step, owed)
        self._file = path.open("a", encoding="utf-8")

    def write(self, record: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(record) + "\n")
        self._file.flush()  # so that a killed process loses no line

    def close(self) -> None:
        self._file.close()


def _truncate(path: Path, step: int, owed: bool = False) -> None:
    """Keep the whole lines up to `step`, of it not the evals if they are owed; a kill may have left half a line."""
    old = path.read_text(encoding="utf-8")
    kept = [line for line in old.splitlines() if _stays(line, step, owed)]
    text = "".join(f"{line}\n" for line in kept)
    if text != old:
        new = path.with_suffix(".new")
        new.write_text(text, encoding="utf-8")
        os.replace(new, path)


def _truncate_of_others(directory: Path, step: int, processes: int) -> None:
    """The samples of hosts that the run had before and has no more; those that it has see to their own."""
    own = {_OTHERS.format(process) for process in range(1, processes)}
    for path in directory.glob(_OTHERS.format("*")):
        if path.name not in own:
            _truncate(path, step)


def _stays(line: str, step: int, owed: bool) -> bool:
    try:
        record = json.loads(line)
        return record["step"] < step or (record["step"] == step and (not owed or _SPEED in record))
    except (json.JSONDecodeError, KeyError, TypeError):
        return False


class Log:
    """The log of one process. Process 0 shows and writes metrics; every process writes its own sample positions.

    It goes on after step `start`, whose evals may be `owed`: they come again.
    """

    def __init__(
        self,
        directory: Path,
        spec: LogSpec,
        *,
        start: int,
        steps: int,
        batch: int,
        process: int = 0,
        processes: int = 1,
        owed: bool = False,
    ):
        self._board = _tensorboard(directory) if spec.tensorboard and process == 0 else None
        self.spec, self.steps, self.batch = spec, steps, batch
        self._collapse = Collapse()
        self._start, self._since = start, (start, time.perf_counter())
        name = SAMPLES if process == 0 else _OTHERS.format(process)
        self._samples = Lines(directory / name, start) if spec.samples else None
        if spec.samples and process == 0:
            _truncate_of_others(directory, start, processes)
        self._metrics = Lines(directory / METRICS, start, owed) if process == 0 else None
        self._console = Console(quiet=process != 0, highlight=False, soft_wrap=True)
        self._progress = _progress(self._console) if self._console.is_terminal and process == 0 else None
        if self._progress is not None:
            self._task = self._progress.add_task("step", total=steps, completed=start)
            self._progress.start()

    def note(self, text: str) -> None:
        """A sentence for people."""
        self._console.print(text, markup=False)

    def samples(self, step: int, index: Sequence[int]) -> None:
        """Positions of the samples that step `step` uses, of this process."""
        if step == self._start + 2:  # the first step has been compiled
            self._since = (step - 1, time.perf_counter())
        if self._samples is not None:
            self._samples.write({"step": step, "index": [int(i) for i in index]})
        if self._progress is not None:
            self._progress.update(self._task, completed=step)

    def train(self, step: int, values: Mapping[str, Any]) -> None:
        """A line of training metrics, with the speed since the last one, and a warning where pseudo-labels collapse."""
        now, (before, then) = time.perf_counter(), self._since
        self._since = (step, now)
        speed = (step - before) * self.batch / max(now - then, 1e-9)
        self.write(step, {**values, _SPEED: round(speed, 3)})
        for sentence in self._collapse.sentences(values):
            self.note(sentence)

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """Numbers of one moment, after `step` steps."""
        if self._metrics is None:
            return
        self._metrics.write({"step": step, **values})
        numbers = {name: value for name, value in values.items() if isinstance(value, int | float)}
        if self._board is not None:
            for name, value in numbers.items():
                self._board.add_scalar(name, value, step)
        shown = "  ".join(f"{name} {value:.4g}" for name, value in numbers.items())
        self.note(f"step {step:>{len(str(self.steps))}}/{self.steps}  {shown}")

    def close(self) -> None:
        for file in (self._samples, self._metrics, self._board):
            if file is not None:
                file.close()
        if self._progress is not None:
            self._progress.stop()


def _progress(console: Console) -> rich.progress.Progress:
    columns = [*rich.progress.Progress.get_default_columns(), rich.progress.MofNCompleteColumn()]
    return rich.progress.Progress(*columns, console=console)


def _tensorboard(directory: Path) -> Any:
    try:
        from tensorboardX import SummaryWriter
    except ModuleNotFoundError:
        raise BadInput("log.tensorboard needs tensorboardX; install it with `pip install sadist_jax[tb]`") from None
    return SummaryWriter(str(directory / "tensorboard"))
