"""A source with its pictures corrupted: COCO-C from COCO, and the like of any other set."""

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from sadist_jax.data import corruptions
from sadist_jax.data.sample import Reader, Sample, Unreadable
from sadist_jax.errors import BadInput


@dataclass(frozen=True)
class Corrupted:
    """`source`, each picture damaged as ImageNet-C and COCO-C do; masks stay, those of elastic_transform too.

    A picture's damage is drawn from (seed, name of the sample, kind) alone, so it is the same in every epoch, on every
    host, and of equal shape at all severities. Samples are called "KIND/SEVERITY/NAME". Features that the source brings
    are dropped, since they are of the clean picture.

    source: any source.
    kind: a name in `corruptions.SEVERITIES`, such as "fog".
    severity: 1 (slight) to 5 (severe); WeSAM has 5.
    seed: of the draws.
    """

    source: Any
    kind: str
    severity: int = 5
    seed: int = 0

    def open(self) -> "CorruptedReader":
        corruptions.refuse_unknown(self.kind, self.severity)
        return CorruptedReader(self.source.open(), self.kind, self.severity, self.seed)


@dataclass(frozen=True)
class CorruptedReader:
    clean: Reader
    kind: str
    severity: int
    seed: int

    def __len__(self) -> int:
        return len(self.clean)

    def __getitem__(self, index: int) -> Sample:
        sample = self.clean[index]
        key = hashlib.sha256(f"{self.seed}/{self.kind}/{sample.name}".encode(errors="surrogateescape")).digest()
        rng = np.random.default_rng(int.from_bytes(key))
        try:
            image = corruptions.corrupt(sample.image, self.kind, self.severity, rng)
        except BadInput as error:  # too small
            raise Unreadable(sample.name, f"{sample.name}: {error}") from None
        return sample._replace(image=image, name=self.name(index), features=None)

    def name(self, index: int) -> str:
        return f"{self.kind}/{self.severity}/{self.clean.name(index)}"

    def digest(self) -> str:
        parts = f"{self.clean.digest()}/{self.kind}/{self.severity}/{self.seed}"
        return hashlib.sha256(parts.encode()).hexdigest()
