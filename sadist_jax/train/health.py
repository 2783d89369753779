"""Steps in a row that changed nothing, because loss or gradient was not finite or a spike: what then becomes of a run.

It goes back to the last checkpoint before them, once, and on from there at a lower learning rate: the samples are the
same, and it is the parameters that have got somewhere bad, since one bad sample makes one bad step and not many in a
row. The second time it stops. Each time their samples are written down, over those of the time before.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

from sadist_jax.data import order
from sadist_jax.train.run import Run
from sadist_jax.weights.files import replacing

SLOWER = 0.5  # times the learning rate, from the last good checkpoint on; ours
DUMP = "bad_batches.json"  # in the directory of the run


class Streak(Exception):
    """Steps `first` to `last` changed nothing, one after the other."""

    def __init__(self, first: int, last: int):
        super().__init__(first, last)
        self.first, self.last = first, last

    def __str__(self) -> str:
        return f"{self.last - self.first + 1} steps in a row, {self.first} to {self.last},"


def slower(run: Run) -> Run:
    """The run at SLOWER times its learning rate."""
    return dataclasses.replace(run, optim=dataclasses.replace(run.optim, lr=SLOWER * run.optim.lr))


def dump(run: Run, streak: Streak) -> Path:
    """Write which samples the steps of a streak had: {"steps": [{"step", "samples": [{"position", "index", "name"}]}]}.

    Of those of all hosts. A sample that was damaged had a substitute, which quarantine.jsonl leads to.
    """
    reader = run.data.source.open()

    def sample(position: int) -> dict[str, Any]:
        index = order.sample_index(position, len(reader), run.seed, run.data.shuffle)
        return {"position": position, "index": index, "name": reader.name(index)}

    def samples(step: int) -> list[dict[str, Any]]:
        return [sample(p) for p in range((step - 1) * run.global_batch, step * run.global_batch)]

    steps = [{"step": step, "samples": samples(step)} for step in range(streak.first, streak.last + 1)]
    with replacing(run.directory / DUMP) as file:
        file.write(json.dumps({"steps": steps}, indent=1).encode())
    return run.directory / DUMP
