"""Metrics on the host: read one step late, so that the device never waits; a line sums the steps since the last one."""

import zlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from sadist_jax.train.health import Streak
from sadist_jax.train.step import STOP
from sadist_jax.typing import Metrics

Line = tuple[int, dict[str, Any]]  # step, values


class Meter:
    """Sums (total, weight) of each metric since the last line; its `state` belongs in the checkpoint.

    `asked`: whether the flag of a process that was asked to stop has been read. All hosts read the same of a step.
    """

    def __init__(self, every: int, state: Mapping[str, Any] | None = None, max_skipped: int | None = None):
        self.every, self.max_skipped, self.asked = every, max_skipped, False
        self.sums = {name: np.array(pair, np.float64) for name, pair in (state or {}).get("sums", {}).items()}
        self.ids = int((state or {}).get("ids", 0))
        self.skipped_in_a_row = int((state or {}).get("skipped", 0))
        self._late: tuple[int, Metrics, int] | None = None

    def push(self, step: int, metrics: Metrics, index: np.ndarray) -> Line | None:
        """Note the metrics of `step`, which is still running, and read those of the step before."""
        line = self.read()
        self._late = (step, metrics, zlib.crc32(np.ascontiguousarray(index, np.int64).tobytes()))
        return line

    def read(self, last: bool = False) -> Line | None:
        """Wait for the step noted last; a line for the log if that step is one of every `every`, or the run's last.

        Raises:
          Streak: it is the `max_skipped`-th step in a row that changed nothing.
        """
        if self._late is None:
            return None
        step, metrics, ids = self._late
        self._late = None
        values = jax.device_get(metrics)
        self.asked |= bool(values.pop(STOP, (0,))[0])
        for name, pair in values.items():
            self.sums[name] = self.sums.get(name, np.zeros(2)) + np.array(pair, np.float64)
        self.ids = zlib.crc32(ids.to_bytes(4, "little"), self.ids)
        self.skipped_in_a_row = self.skipped_in_a_row + 1 if values["skipped"][0] else 0
        if self.max_skipped is not None and self.skipped_in_a_row >= self.max_skipped:
            raise Streak(step - self.skipped_in_a_row + 1, step)
        return (step, self._line()) if last or step % self.every == 0 else None

    def _line(self) -> dict[str, Any]:
        """total / weight of each metric (None where nothing had weight); a digest of this host's sample positions."""
        names = sorted(self.sums, key=lambda name: (name != "loss", name))
        line: dict[str, Any] = {n: float(self.sums[n][0] / self.sums[n][1]) if self.sums[n][1] else None for n in names}
        line["samples"] = f"{self.ids:08x}"
        self.sums, self.ids = {}, 0
        return line

    def state(self) -> dict[str, Any]:
        """For the checkpoint's JSON; JSON keeps every bit of a double."""
        assert self._late is None, "read() first"
        sums = {name: pair.tolist() for name, pair in self.sums.items()}
        return {"sums": sums, "ids": self.ids, "skipped": self.skipped_in_a_row}
