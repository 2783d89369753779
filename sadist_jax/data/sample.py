"""What every source gives for one index, and what every source promises."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from sadist_jax.errors import BadInput

Row = dict[str, np.ndarray | np.generic]  # what a transform makes of one sample: arrays without a batch axis


class Unreadable(BadInput):
    """One file of a data set, `path`, is damaged. The pipeline can put such samples into quarantine."""

    def __init__(self, path: str, message: str):
        super().__init__(path, message)  # both in args, so that it survives the way back from a worker process
        self.path, self.message = path, message

    def __str__(self) -> str:
        return self.message


class Masks(Sequence):
    """`count` masks (H, W) bool that are decoded when they are indexed; `np.stack(masks)` gives them all.

    An SA-1B image has about 100 masks of 3 MB each and a step uses a few of them. Whatever is wrong with an
    annotation shows up only on decoding, so BadInput becomes `Unreadable` of the sample `name` here.
    """

    def __init__(self, name: str, count: int, decode: Callable[[int], np.ndarray]):
        self.name, self.length, self.decode = name, count, decode

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, i):
        if isinstance(i, slice):
            return [self[j] for j in range(*i.indices(self.length))]
        if not -self.length <= i < self.length:
            raise IndexError(i)
        try:
            return self.decode(i % self.length).astype(bool, copy=False)
        except Unreadable:
            raise
        except BadInput as error:
            raise Unreadable(self.name, str(error)) from None


class Features(NamedTuple):
    """values: (h, w, c), or several such maps. view: what the teacher saw, as the transform of its cache puts it."""

    values: np.ndarray
    view: str


class Sample(NamedTuple):
    """One image and its instances.

    image: uint8 (H, W, 3) RGB, upright; read-only.
    masks: n masks bool (H, W): an array (n, H, W), or decoded when indexed (`Masks`).
    iscrowd: bool (n,): a region with many objects that nobody separated (COCO); never a training target.
    category: int64 (n,): the data set's own id; -1 where it has none.
    name: file of the image relative to the source's root, with forward slashes.
    label: class of the whole image; -1 where there is none.
    features: of a frozen teacher, where the source is `WithFeatures`.
    """

    image: np.ndarray
    masks: Sequence[np.ndarray] | np.ndarray
    iscrowd: np.ndarray
    category: np.ndarray
    name: str
    label: int = -1
    features: Features | None = None


class Reader(Protocol):
    """An opened source: random access, no state, cheap to send to a worker process."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Sample:
        """Raises Unreadable where this one sample is damaged."""
        ...

    def name(self, index: int, /) -> str:
        """`Sample.name` without reading the file."""
        ...

    def digest(self) -> str:
        """Hex digest of the data set's identity: equal lists of files (or annotations) give equal digests."""
        ...


def uncategorised(image: np.ndarray, masks: Sequence[np.ndarray] | np.ndarray, name: str) -> Sample:
    """Sample whose instances have no category; none of them is a crowd."""
    return Sample(image, masks, np.zeros(len(masks), bool), np.full(len(masks), -1, np.int64), name)


def unlabelled(image: np.ndarray, name: str, label: int = -1) -> Sample:
    """Sample without instances."""
    height, width, _ = image.shape
    return uncategorised(image, np.zeros((0, height, width), bool), name)._replace(label=label)
