"""A small source whose samples stay in memory."""

import functools
from dataclasses import dataclass
from typing import Any

from sadist_jax.data.sample import Reader, Sample


@dataclass(frozen=True)
class InMemory:
    """`source`, but each sample is made once: for a few hundred that are dear to make, such as generated scenes.

    Equal sources share what they keep, so a second run in the same process finds it ready. Each loader process keeps
    samples of its own; nothing is ever dropped.
    """

    source: Any

    def open(self) -> "InMemoryReader":
        _open(self.source)  # what is wrong with the source shows now
        return InMemoryReader(self.source)


@dataclass(frozen=True)
class InMemoryReader:
    source: Any

    def __len__(self) -> int:
        return len(_open(self.source))

    def __getitem__(self, index: int) -> Sample:
        return _sample(self.source, index)

    def name(self, index: int) -> str:
        return _open(self.source).name(index)

    def digest(self) -> str:
        return _open(self.source).digest()


@functools.cache
def _open(source: Any) -> Reader:
    return source.open()


@functools.cache
def _sample(source: Any, index: int) -> Sample:
    return _open(source)[index]
