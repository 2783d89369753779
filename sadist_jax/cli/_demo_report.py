"""The page that `sadist demo` leaves: table, curves of all stages, pictures, what was equal and what was not."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sadist_jax.train import chart, report
from sadist_jax.train.log import METRICS
from sadist_jax.train.run import Run, as_json

TEACHER_NOTE = (
    "The students' photos and scenes were held out from the students only: sam_mini was trained on scenes of the same "
    "generator, with surfaces of all of these photos, and on regions of the photos themselves."
)


class Page(NamedTuple):
    """What is on it.

    stages: the SAMI run first, then the fine-tunings. header, rows: of the table. objects: what the table is about.
    """

    stages: Mapping[str, Run]
    header: tuple[str, ...]
    rows: list[tuple[str, ...]]
    objects: str
    conclusion: str
    sheet: np.ndarray
    next_command: str

    def write(self, path: Path) -> None:
        """One self-contained HTML file."""
        title = "Mean IoU on held-out scenes"
        note = f"{self.objects}; the most confident mask counts."
        configs = [(f"Config of {name}", json.dumps(as_json(run), indent=2)) for name, run in self.stages.items()]
        same = "The same prompt for every model; the most confident mask."
        report.write_report(
            path,
            "sadist demo",
            summary=self.conclusion,
            tables=[report.Table(title, self.header, self.rows, note)],
            curves=self._curves(),
            panels=[report.Panel("Held-out photos", self.sheet, same)],
            notes=[self._budget(), TEACHER_NOTE],
            details=configs,
            next_command=self.next_command,
        )

    def _curves(self) -> list[chart.Chart]:
        stages = list(self.stages.items())
        pretraining, tuned = stages[:1], stages[1:]

        def lines(runs: list[tuple[str, Run]], key: str) -> list[chart.Series]:
            return [chart.read_series(run.directory / METRICS, key, name) for name, run in runs]

        return [
            chart.Chart("SAMI: loss", lines(pretraining, "loss"), y_label="mean squared error"),
            chart.Chart("SAMI: hidden tokens", lines(pretraining, "masked_similarity"), y_label="cosine to teacher"),
            chart.Chart("Fine-tuning: loss", lines(tuned, "loss")),
            chart.Chart("Fine-tuning: IoU of the first answer", lines(tuned, "iou_first"), y_label="IoU"),
            chart.Chart("Fine-tuning: IoU of the last answer", lines(tuned, "iou_last"), y_label="IoU"),
        ]

    def _budget(self) -> str:
        sami, tuned, *_ = self.stages.values()
        return (
            f"Both students had the same fine-tuning: {tuned.steps} steps of {tuned.global_batch} scenes, the same in "
            f"the same order, and the same decoder to start with, that of sam_mini. SAMI came before it, in addition: "
            f"{sami.steps} steps of {sami.global_batch} crops without masks. Longer runs: --scale 10."
        )
