"""The list of damaged samples: one JSON object a line, {"sample", "path", "reason"}, written by any process.

The list is a report and a limit, not an input: which sample replaces a damaged one depends on (seed, position) and on
the files alone, so a run that starts with the list of an earlier one sees the same samples.
"""

import fcntl
import json
import os
from dataclasses import dataclass
from pathlib import Path

from sadist_jax.data.sample import Unreadable
from sadist_jax.errors import BadInput


@dataclass(frozen=True)
class Quarantine:
    """Damaged samples are listed in `path` and replaced, until they are more than a fraction of the source.

    path: JSONL file; made when the first damaged sample is met. Several hosts need a file each, or a drive with
        file locks.
    max_bad_fraction: of the source's distinct samples; 0 stops at the first one.
    """

    path: str
    max_bad_fraction: float = 0.01

    def __post_init__(self):
        if not 0 <= self.max_bad_fraction <= 1:
            raise BadInput(f"max_bad_fraction is {self.max_bad_fraction}; it must be between 0 and 1")

    def samples(self) -> set[str]:
        """Names of the samples on the list; lines that a crash cut off are skipped."""
        if not Path(self.path).exists():
            return set()
        found = set()
        for line in Path(self.path).read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                found.add(json.loads(line)["sample"])
            except (ValueError, KeyError, TypeError):
                continue
        return found

    def add(self, sample: str, error: Unreadable, length: int) -> None:
        """Put a sample on the list, once. Raises BadInput when more than the fraction of `length` are on it."""
        listed = self.samples()
        if sample not in listed:
            self._append(json.dumps({"sample": sample, "path": error.path, "reason": error.message}))
            listed = self.samples() | {sample}
        if len(listed) > self.max_bad_fraction * length:
            raise BadInput(
                f"{len(listed)} of {length} samples cannot be read, more than max_bad_fraction="
                f"{self.max_bad_fraction:g} allows; the last: {error}. Repair or remove the files listed in "
                f"{self.path} and delete that list, or raise the fraction"
            )

    def _append(self, line: str) -> None:
        """Under a lock, so that nobody takes a line that another process is writing for one that a crash cut off."""
        Path(self.path).parent.mkdir(parents=True, exist_ok=True)
        file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            size = os.fstat(file).st_size
            cut = size > 0 and os.pread(file, 1, size - 1) != b"\n"
            os.write(file, ("\n" * cut + line + "\n").encode())
        finally:
            os.close(file)  # and with it the lock
