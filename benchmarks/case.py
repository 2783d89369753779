"""What is compared with what: a case is one piece of work, a contender one way to do it."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

TOLERANCE = 1e-3  # between outputs of the order of one


class Op(NamedTuple):
    """What a contender makes in its process, weights loaded and inputs at hand.

    run: does the work once; the work is finished, not merely queued, when it returns.
    outputs: what the work gives, by name, to be compared between contenders; called once, before any `run`.
    """

    run: Callable[[], object]
    outputs: Callable[[], Mapping[str, np.ndarray]]


@dataclasses.dataclass(frozen=True)
class Contender:
    """One row of the table.

    make: a function of a module, (folder, **options) -> Op; its process finds it by name and calls it. It imports JAX
      or torch itself, so that neither is in the other's process.
    torch: it needs the interpreter that has torch.
    """

    name: str
    make: Callable[..., Op]
    torch: bool = False


@dataclasses.dataclass(frozen=True)
class Case:
    """One table. Ratios are to the first contender.

    name: of the command line and of the file of results.
    prepare: writes what the contenders share (weights, inputs) into a folder: (folder, **options).
    options: go to `prepare` and to each `make`; plain values.
    repeat: how often the work is done in a turn, where once is too short to time.
    tolerance: largest difference of an output from the first contender's.
    """

    name: str
    title: str
    contenders: tuple[Contender, ...]
    prepare: Callable[..., None] | None = None
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    repeat: int = 1
    tolerance: float = TOLERANCE


def draw(folder: Path, table: Any) -> None:
    """Write weights.pth: every tensor of a parameter table, drawn as for the parity tests, under the official names."""
    from sadist_jax.weights.pth_writer import write_pth
    from tests.parity import draw

    write_pth(folder / "weights.pth", draw.state(table))


def photo(side: int, batch: int = 1) -> np.ndarray:
    """(batch, side, side, 3) uint8 without a photo: the work does not depend on what is in it."""
    return np.random.default_rng(0).integers(0, 256, (batch, side, side, 3), np.uint8)
