"""Score a data set piece by piece: records on disk, a line an image, so that a run goes on where it was.

Process i of n takes every n-th image and appends to a file of its own. Whatever the partition was, an image that has a
line in any of the files is not done again, and the records of all of them are put in the data set's order.
"""

import dataclasses
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sadist_jax.data.sample import Reader, Sample, Unreadable
from sadist_jax.errors import BadInput
from sadist_jax.evals.evaluation import Evaluation, merge
from sadist_jax.weights.files import replacing, write_once

JOB = ".job.json"
RECORDS = "records-{}.jsonl"  # of a process
_OFTEN = 10  # images between two messages


@dataclasses.dataclass(frozen=True)
class Scoring:
    """One evaluation of one model over a data set.

    folder: of the records. indices: of the images that count. about: what the scores depend on beside data and
      evaluation: weights, options. Plain values.
    max_bad_fraction: of the images that may be unreadable; they are left out of the scores.
    """

    evaluation: Evaluation
    reader: Reader
    folder: Path
    indices: tuple[int, ...]
    about: Mapping[str, Any]
    max_bad_fraction: float = 0.0

    def run(
        self,
        answer: Callable[[Sample], Any],
        process: int = 0,
        processes: int = 1,
        say: Callable[[str], None] = print,
    ) -> dict[str, int]:
        """Score this process's share; returns how many images were done, and how many were there already.

        answer: sample -> the evaluation's predict function for it; a model's is the same for all.

        Raises BadInput: the folder is of another job, or too many images cannot be read.
        """
        lines = self._agree()
        share = self.indices[process::processes]
        left = [index for index in share if "records" not in lines.get(index, ())]  # it may have been repaired
        bad = {index: line["bad"] for index, line in lines.items() if "bad" in line and index not in left}
        begin = time.monotonic()
        for number, index in enumerate(left, 1):
            line = self._score(index, answer)
            self._append(process, line)
            if "bad" in line:
                bad[index] = line["bad"]
                self._refuse_many(list(bad.values()))
            if number % _OFTEN == 0 or number == len(left):
                remaining = (time.monotonic() - begin) / number * (len(left) - number)
                say(f"{self.folder.name}: {number} of {len(left)} images, {remaining:.0f} s left")
        return {"done": len(left), "there": len(share) - len(left)}

    def missing(self) -> int:
        """How many images nobody has scored yet."""
        return len(set(self.indices) - set(self._lines()))

    def finish(self) -> tuple[tuple[Any, ...], list[str]]:
        """(records of all images in the data set's order, whoever scored them; a sentence for each that was left out).

        Raises BadInput: too many of all shares were left out.
        """
        lines, make = self._lines(), self.evaluation.record
        bad = [lines[index]["bad"] for index in self.indices if "bad" in lines[index]]
        self._refuse_many(bad)
        return merge([make(*row) for row in lines[index].get("records", ())] for index in self.indices), bad

    def _score(self, index: int, answer: Callable[[Sample], Any]) -> dict[str, Any]:
        try:
            sample = self.reader[index]
        except Unreadable as error:
            return {"index": index, "bad": str(error)}
        return {"index": index, "records": self.evaluation.update(sample, answer(sample))}

    def _refuse_many(self, bad: Sequence[str]) -> None:
        if len(bad) > self.max_bad_fraction * len(self.indices):
            raise BadInput(
                f"{len(bad)} of {len(self.indices)} images cannot be read, more than max_bad_fraction = "
                f"{self.max_bad_fraction:g} allows; the last: {bad[-1]}"
            )

    def _agree(self) -> dict[int, dict[str, Any]]:
        """The lines that are there, which are of the same model, images and protocol."""
        wanted = {
            "evaluation": type(self.evaluation).__name__, "protocol": dataclasses.asdict(self.evaluation),  # type: ignore[call-overload]
            "data": self.reader.digest(), "images": self.indices, **self.about,
        }  # fmt: skip
        text, job = json.dumps(wanted, sort_keys=True) + "\n", self.folder / JOB
        try:
            found = write_once(job, text)
        except UnicodeDecodeError:
            found = ""
        lines = self._lines()
        if found != text and not lines:  # of a run that ended before it scored anything
            with replacing(job) as file:
                file.write(text.encode())
        elif found != text:
            raise BadInput(
                f"{self.folder} holds the scores of another job, with other images, weights or options (see {JOB} in "
                "it); choose another"
            )
        return lines

    def _append(self, process: int, line: Mapping[str, Any]) -> None:
        """A whole line, after whatever a kill has left of the last one."""
        path = self.folder / RECORDS.format(process)
        try:
            with path.open("ab+") as file:
                cut = file.tell() and os.pread(file.fileno(), 1, file.tell() - 1) != b"\n"
                file.write(b"\n" * bool(cut) + json.dumps(line).encode() + b"\n")
        except OSError as error:
            raise BadInput(f"{path} cannot be written ({error.strerror or error}); free space") from None

    def _lines(self) -> dict[int, dict[str, Any]]:
        """Index -> line, of all processes; what is left of a line after a kill does not count."""
        found: dict[int, dict[str, Any]] = {}
        for path in sorted(self.folder.glob(RECORDS.format("*"))):
            for text in path.read_bytes().split(b"\n"):
                try:
                    line = json.loads(text)
                    if "records" in line or line["index"] not in found:
                        found[line["index"]] = line
                except (ValueError, TypeError, KeyError):
                    continue
        return found
