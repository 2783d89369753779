"""Pseudo-labels that have become all or nothing: a method that makes its own targets can agree with itself on those."""

from collections.abc import Mapping
from typing import Any

EMPTY, FULL = "pseudo_empty", "pseudo_full"  # metrics of a method: (how many of its masks are so, of how many)
COLLAPSED = 0.9  # of the masks since the last line; ours


class Collapse:
    """Says once an episode that nearly all pseudo-labels are empty, or full; a line that is neither ends one."""

    def __init__(self) -> None:
        self._said = {EMPTY: False, FULL: False}

    def sentences(self, values: Mapping[str, Any]) -> list[str]:
        """What there is to say of a line of the log; `values` by metric."""
        found = []
        for name, said in self._said.items():
            share = values.get(name)
            if share is None:
                continue
            self._said[name] = share > COLLAPSED
            if share > COLLAPSED and not said:
                found.append(
                    f"warning: {share:.0%} of the pseudo-labels are {name.removeprefix('pseudo_')}, so that the method "
                    "hardly learns; an earlier checkpoint and a lower optim.lr may do better"
                )
        return found
