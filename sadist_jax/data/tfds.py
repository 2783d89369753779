"""Data sets of TensorFlow Datasets by name; the package is an extra."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from sadist_jax.codecs.images import to_rgb
from sadist_jax.data.label_maps import split_ids
from sadist_jax.data.sample import Sample, unlabelled
from sadist_jax.errors import BadInput


@dataclass(frozen=True)
class Tfds:
    """A split of a prepared TFDS data set, in a random-access format (array_record), e.g. Tfds("imagenette", "train").

    name: data set, config and version as tfds.builder takes them.
    split: e.g. "train" or "train[:10%]".
    data_dir: where it was prepared; "" is TFDS's own default.
    image, label, masks: keys of the features; label and masks may be missing from the data set. Masks are a label map
        (H, W, 1) of ids, e.g. oxford_iiit_pet's "segmentation_mask", and every id that is not ignored is one mask.
    ignore: ids that are no region.
    """

    name: str
    split: str
    data_dir: str = ""
    image: str = "image"
    label: str = "label"
    masks: str = "segmentation_mask"
    ignore: tuple[int, ...] = (0, 255)

    def open(self) -> "TfdsReader":
        reader = TfdsReader(self)
        if self.image not in reader.features:
            raise BadInput(f"{self.name} has no feature {self.image!r}; it has {', '.join(sorted(reader.features))}")
        return reader


@dataclass(frozen=True)
class TfdsReader:
    config: Tfds

    @cached_property
    def _builder(self) -> Any:
        try:
            import tensorflow_datasets as tfds
        except ModuleNotFoundError:
            raise BadInput(
                f"reading {self.config.name} needs TensorFlow Datasets; pip install sadist_jax[tfds]"
            ) from None
        try:
            return tfds.builder(self.config.name, data_dir=self.config.data_dir or None)
        except Exception as error:  # TFDS raises its own types, and ValueError for typos
            raise BadInput(f"TFDS has no data set {self.config.name!r} ({_first_line(error)})") from None

    @cached_property
    def _data(self) -> Any:
        try:
            return self._builder.as_data_source(split=self.config.split)
        except Exception as error:  # not prepared, another file format, unknown split
            raise BadInput(
                f"split {self.config.split!r} of {self.config.name} cannot be opened ({_first_line(error)}); "
                "prepare it with tfds.builder(...).download_and_prepare(file_format='array_record')"
            ) from None

    def __getstate__(self) -> dict[str, Any]:
        return {"config": self.config}  # open files do not travel to workers

    @property
    def features(self) -> Any:
        return self._builder.info.features

    def __len__(self) -> int:
        return len(self._data)

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < len(self):
            raise IndexError(index)
        row, config = self._data[index], self.config
        image = to_rgb(np.asarray(row[config.image]))
        label = int(row[config.label]) if config.label in row and np.ndim(row[config.label]) == 0 else -1
        if config.masks not in row:
            return unlabelled(image, self.name(index), label)
        ids = np.asarray(row[config.masks]).reshape(image.shape[:2])
        masks, category = split_ids(ids, config.ignore, self.name(index))
        return Sample(image, masks, np.zeros(len(category), bool), category, self.name(index), label)

    def name(self, index: int) -> str:
        return f"{self.config.name}/{self.config.split}/{index}"

    def digest(self) -> str:
        full = getattr(self._builder.info, "full_name", self.config.name)
        keys = self.config.image, self.config.label, self.config.masks, self.config.ignore
        return hashlib.sha256(f"{full}/{self.config.split}/{len(self)}/{keys}".encode()).hexdigest()


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
