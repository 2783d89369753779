"""Where a run's first weights come from: a list of (which leaves, which file or run, where they are in it)."""

import dataclasses
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sadist_jax import pretrained, tree
from sadist_jax.errors import BadInput
from sadist_jax.nn import table as leaves
from sadist_jax.nn.table import Leaf, Table
from sadist_jax.train import saved_params
from sadist_jax.weights import pth, safetensors

PARAMS = "params.safetensors"  # what a finished run leaves, in the reference's layout like every file of weights


@dataclasses.dataclass(frozen=True)
class Start:
    """Leaves that `target` matches start from `source`.

    A leaf is called `prefix` + its name in the source, or `prefix` + what the first group of `target` matched:
    `Start(r"teacher\\.(.*)", "sam_vit_h.pth")` reads teacher.mask_decoder.x from mask_decoder.x. `source` is a file of
    weights (.pth, .pt, .safetensors), "sam_mini", or the directory of a run. Of several starts that match a leaf the
    last counts.
    """

    target: str
    source: str
    prefix: str = ""

    @classmethod
    def base(cls, source: str) -> "Start":
        """Of a method with an `Adapted` model: all leaves but the adapters, and those of the anchor, if it has any."""
        return cls(r"(?:model|anchor)\.((?!.*\.lora\.).*)", source)


class Source(NamedTuple):
    """Leaves by name; `reference`: in PyTorch's layout, to be transposed as each leaf's kind says."""

    leaves: Mapping[str, np.ndarray]
    reference: bool


def read(path: str) -> Source:
    """A file of weights, or a run: its exported parameters, or those of its newest checkpoint while it is unfinished.

    Raises:
      BadInput: there is no such file or run, or it cannot be read.
    """
    if not Path(path).exists() and (shipped := pretrained.SHIPPED / f"{path}.safetensors").exists():
        path = str(shipped)
    if Path(path).is_dir():
        exported = Path(path, PARAMS)
        if not exported.exists():
            return Source(saved_params.read_params(Path(path)), reference=False)
        path = str(exported)
    elif not Path(path).exists():
        raise BadInput(
            f"{path}, which the run starts from, does not exist; make it first (the config's docstring says by which "
            "run), or name another with --starts.N.source"
        )
    if path.endswith(".safetensors"):
        return Source(safetensors.read(path)[0], reference=True)
    return Source(pth.read_pth(path), reference=True)


def overlay(
    starts: Iterable[Start], table: Table, wanted: Collection[str], read: Callable[[str], Source] = read
) -> dict[str, np.ndarray]:
    """{leaf name: value in our layout} for the leaves among `wanted` that the starts cover; only their files are read.

    Raises:
      BadInput: a target matches nothing in `table`, or a source lacks leaves or has other shapes (all are listed).
    """
    flat = tree.flatten(table)
    plan: dict[str, tuple[Start, str]] = {}
    for start in starts:
        for name in tree.matches(start.target, flat):
            match = re.fullmatch(start.target, name)
            assert match is not None
            plan[name] = (start, start.prefix + (match[1] if match.re.groups else name))
    values: dict[str, np.ndarray] = {}
    for path in dict.fromkeys(start.source for start, _ in plan.values()):
        names = {n: there for n, (start, there) in plan.items() if start.source == path and n in wanted}
        if names:
            values |= _take(flat, names, read(path), path)
    return values


def _take(flat: Mapping[str, Leaf], names: Mapping[str, str], source: Source, path: str) -> dict[str, np.ndarray]:
    """Values of the leaves `names` {ours: theirs}."""
    if missing := [theirs for theirs in names.values() if theirs not in source.leaves]:
        raise BadInput(
            f"{path} lacks {len(missing)} of {len(names)} leaves that starts ask for; correct the start's target or "
            "prefix, or name another source:\n" + "\n".join(missing)
        )
    found = {name: np.asarray(source.leaves[theirs]) for name, theirs in names.items()}
    table = {name: flat[name] for name in names}
    if source.reference:
        return tree.flatten(leaves.from_reference(tree.unflatten(table), found, path))
    if problems := tree.difference(
        {n: leaf.shape for n, leaf in table.items()}, {n: v.shape for n, v in found.items()}
    ):
        raise BadInput(
            f"{path} does not fit this run; start from a run of the same sizes, or match fewer leaves:\n{problems}"
        )
    return found
