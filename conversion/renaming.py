"""One table of names for both directions: pairs of templates in which {} stands for a number."""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from sadist_jax.errors import BadInput

Value = TypeVar("Value")
Pairs = tuple[tuple[str, str], ...]


def rename(state: Mapping[str, Value], rules: Pairs, source: str) -> dict[str, Value]:
    """Names that start with the left side of a rule get its right side instead; what follows stays.

    Raises:
      BadInput: names without a rule, or two that would become one; all are listed.
    """
    compiled = [(_matcher(left), right) for left, right in rules]
    renamed: dict[str, Value] = {}
    strange, double = [], []
    for name, value in state.items():
        new = next((new for match, right in compiled if (new := _apply(match, right, name)) is not None), None)
        if new is None:
            strange.append(name)
        elif new in renamed:
            double.append(f"{name} -> {new}")
        else:
            renamed[new] = value
    if strange or double:
        lines = [f"unknown name: {name}" for name in strange] + [f"not the only one: {pair}" for pair in double]
        raise BadInput(
            f"{source} has names that this conversion does not know; convert the file that was released:\n"
            + "\n".join(lines)
        )
    return renamed


def swapped(rules: Pairs) -> Pairs:
    """The rules of the way back."""
    return tuple((right, left) for left, right in rules)


def within(prefix: str, other: str, rules: Iterable[tuple[str, str]]) -> Pairs:
    """The rules below a prefix on either side."""
    return tuple((prefix + left, other + right) for left, right in rules)


def _matcher(template: str) -> Callable[[str], re.Match[str] | None]:
    pattern = re.escape(template).replace(r"\{\}", r"(\d+)")
    return re.compile(rf"{pattern}(?=\.|$)").match


def _apply(match: Callable[[str], re.Match[str] | None], template: str, name: str) -> str | None:
    found = match(name)
    return None if found is None else template.format(*found.groups()) + name[found.end() :]
