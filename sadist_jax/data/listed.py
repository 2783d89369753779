"""Readers that know all their samples by name from the start: what those of folders and of annotation files share."""

import json
from dataclasses import dataclass

from sadist_jax.data.names import Blobs, Names


@dataclass(frozen=True)
class ListedNames:
    """Base of a `sample.Reader` with one picture a sample: `pictures`, names below some root."""

    pictures: Names

    def __len__(self) -> int:
        return len(self.pictures)

    def name(self, index: int) -> str:
        return self.pictures[index]

    def digest(self) -> str:
        return self.pictures.digest()


@dataclass(frozen=True)
class ListedEntries:
    """Base of a `sample.Reader` with one JSON list a sample: [name of the picture, what else is known of it ...]."""

    entries: Blobs

    def __len__(self) -> int:
        return len(self.entries)

    def name(self, index: int) -> str:
        return json.loads(self.entries[index])[0]

    def digest(self) -> str:
        return self.entries.digest()
