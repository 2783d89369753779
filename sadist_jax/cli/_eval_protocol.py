"""A protocol of `sadist eval`: the options that all share, and what each must say about itself."""

import abc
import dataclasses
import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import tyro

from sadist_jax.data.bsds import Bsds
from sadist_jax.data.coco_instances import CocoInstances
from sadist_jax.data.coco_panoptic import CocoPanoptic
from sadist_jax.data.label_maps import LabelMaps
from sadist_jax.data.mask_folders import MaskFolders
from sadist_jax.data.sa1b import Sa1b
from sadist_jax.data.sample import Reader, Sample
from sadist_jax.data.tfds import Tfds
from sadist_jax.errors import BadInput
from sadist_jax.evals.scoring import Scoring
from sadist_jax.train.report import Table
from sadist_jax.weights.files import reading

Masks = CocoInstances | CocoPanoptic | Sa1b | Bsds | MaskFolders | LabelMaps | Tfds
Numbers = Mapping[str, Mapping[str, float]]  # of each contender, as its evaluation's `finish` gives them
Names = Annotated[tuple[str, ...], tyro.conf.UseAppendAction]


class Contender(NamedTuple):
    """Who is scored.

    answer: sample -> the predict function for it. about: what its answers depend on. evaluation: as far as it can be
      asked, where that is less than the protocol's.
    """

    answer: Callable[[Sample], Any]
    about: dict[str, Any]
    evaluation: Any = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Protocol(abc.ABC):
    """Options of every protocol."""

    out: Path
    """folder of the scores"""
    limit: int | None = None
    """at most so many images, evenly spaced, to try it out"""
    cases: int = 3
    """pictures of so many of the best, the median and the worst cases"""
    process: int | None = None
    """which of `processes` this is; else what SADIST_PROCESS or Slurm says, and the only one where nothing does"""
    processes: int | None = None
    """how many share the work"""
    max_bad_fraction: float = 0.0
    """of the images that may be unreadable; they are left out of every score and named"""

    @abc.abstractmethod
    def source(self) -> Any:
        """Where the samples come from."""

    @abc.abstractmethod
    def evaluation(self) -> Any:
        """The `sadist_jax.evals.evaluation.Evaluation`."""

    @abc.abstractmethod
    def contenders(self) -> Mapping[str, Any]:
        """Name in the table -> what `open` takes."""

    @abc.abstractmethod
    def open(self, who: Any) -> Contender:
        """Load a checkpoint, or whatever is scored."""

    def tables(self, numbers: Numbers) -> list[Table]:
        """All numbers in one table: a row each, a column for each contender."""
        rows = list(dict.fromkeys(name for found in numbers.values() for name in found))
        cells = [[name, *(cell(found.get(name)) for found in numbers.values())] for name in rows]
        return [Table("Scores", ["", *numbers], cells)]

    @abc.abstractmethod
    def show(self, sample: Sample, record: Any, predict: Any) -> tuple[np.ndarray, np.ndarray]:
        """(what is true, what was answered), as pictures (H, W, 3) uint8."""

    def check(self) -> None:
        """Raises BadInput for options that cannot be."""
        if self.out.exists() and not self.out.is_dir():
            raise BadInput(f"--out {self.out} is a file; name a folder")
        if not 0 <= self.max_bad_fraction <= 1:
            raise BadInput(f"--max-bad-fraction {self.max_bad_fraction:g} must be between 0 and 1")
        if (self.limit is not None and self.limit < 1) or self.cases < 0:
            raise BadInput("--limit must be 1 or more, --cases 0 or more")

    def scoring(self, name: str, contender: Contender, reader: Reader) -> Scoring:
        """Where the scores of one contender go."""
        many = min(self.limit or len(reader), len(reader))
        chosen = np.linspace(0, len(reader) - 1, many).round().astype(int).tolist()
        folder = self.out / "records" / name
        evaluation = contender.evaluation or self.evaluation()
        return Scoring(evaluation, reader, folder, tuple(chosen), contender.about, self.max_bad_fraction)


@dataclasses.dataclass(frozen=True, kw_only=True)
class WithMasks(Protocol):
    """Protocols whose ground truth may be any source of masks."""

    data: Masks

    def source(self) -> Any:
        return self.data


def digest_of(*paths: str | Path) -> str:
    """Of files: they may be others tomorrow."""
    digest = hashlib.sha256()
    for path in paths:
        with reading(path) as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def named(texts: tuple[str, ...], option: str) -> dict[str, str]:
    """[NAME=]PATH -> {name: path}; without a name, the file's, up to its first dot."""
    found: dict[str, str] = {}
    for text in texts:
        name, has_name, path = text.partition("=")
        name, path = (name, path) if has_name else (Path(text).name.split(".")[0], text)
        if name in found:
            raise BadInput(f"two of {option} are called {name}; give names, {option} NAME=PATH")
        if not name or "/" in name or name.startswith("."):
            raise BadInput(f"{option} {text} has no name that a folder could have; write {option} NAME=PATH")
        found[name] = path
    return found


def cell(number: float | None) -> str:
    """Of a table; -: it could not be said."""
    if number is None:
        return "-"
    return str(int(number)) if float(number).is_integer() and abs(number) > 1 else f"{number:.3f}"
