"""OCID: scenes of household objects on a floor or a table, one more object in every picture."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sadist_jax.data import images
from sadist_jax.data.label_maps import split_ids
from sadist_jax.data.listed import ListedEntries
from sadist_jax.data.names import Blobs, first_five, walk
from sadist_jax.data.sample import Sample
from sadist_jax.errors import BadInput

PICTURES, MAPS = "rgb", "label"


@dataclass(frozen=True)
class Ocid:
    """Every .../rgb/NAME.png below `root` with its ids .../label/NAME.png, as OCID-dataset unpacks.

    Source: Suchi et al. 2019, "EasyLabel", arXiv:1902.01626. Ids are instances but for 0 and 1, the ground, and, in
    scenes on a table (a folder "table" in the name), 2: the table. That is how WeSAM (Zhang et al. 2024) reads them.
    Pictures without a map are left out.
    """

    root: str

    def open(self) -> "OcidReader":
        every = set(walk(self.root, (".png",)))
        pictures = [name for name in sorted(every) if name.split("/")[-2:-1] == [PICTURES]]
        rows = [[name, _map_of(name)] for name in pictures if _map_of(name) in every]
        if not rows:
            hint = f"found {first_five(pictures)} without a map" if pictures else f"no folder {PICTURES} has pictures"
            raise BadInput(f"no pictures with maps in {self.root}: {hint}; give the folder OCID-dataset")
        return OcidReader(Blobs(json.dumps(row).encode() for row in rows), self.root)


@dataclass(frozen=True)
class OcidReader(ListedEntries):
    """An entry is [picture, map]."""

    root: str

    def __getitem__(self, index: int) -> Sample:
        name, ids_name = json.loads(self.entries[index])
        ids = images.read_ids(Path(self.root, ids_name))
        image = images.read_image(Path(self.root, name), ids.shape)
        ground = (0, 1, 2) if "table" in name.split("/") else (0, 1)
        masks, category = split_ids(ids, ground, name)
        return Sample(image, masks, np.zeros(len(category), bool), category, name)


def _map_of(name: str) -> str:
    folder, _, file = name.rpartition("/")
    return f"{folder.removesuffix(PICTURES)}{MAPS}/{file}"
