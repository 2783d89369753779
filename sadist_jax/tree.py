"""Trees by name: a leaf is called by its keys joined with dots, as in a PyTorch checkpoint.

One rule selects leaves everywhere (freezing, learning rates, weight decay, sharding): a regex that must match the
whole name. A pattern that matches nothing is an error, because it is nearly always a typo.
"""

import difflib
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from sadist_jax.errors import BadInput

Tree = Any  # nested dict with string keys


def flatten(tree: Tree, prefix: str = "") -> dict[str, Any]:
    """Nested dict -> {dotted name: leaf}, in the tree's own order. Anything that is not a dict is a leaf."""
    flat = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def unflatten(flat: Mapping[str, Any]) -> Tree:
    """{dotted name: leaf} -> nested dict. Raises ValueError where one name is both a leaf and a branch."""
    tree: dict[str, Any] = {}
    for name, value in flat.items():
        *branch, leaf = name.split(".")
        node = tree
        for key in branch:
            node = node.setdefault(key, {})
            if not isinstance(node, dict):
                raise ValueError(f"{name!r} lies below a leaf of the same name")
        if leaf in node:
            raise ValueError(f"{name!r} appears twice")
        node[leaf] = value
    return tree


def map_named(fn: Callable[..., Any], tree: Tree, *rest: Tree) -> Tree:
    """Apply `fn(name, leaf, *leaves of rest)` to every leaf; the structure stays."""
    others = [flatten(r) for r in rest]
    return unflatten({name: fn(name, leaf, *(o[name] for o in others)) for name, leaf in flatten(tree).items()})


def matches(pattern: str, names: Iterable[str]) -> list[str]:
    """Names that the regex matches as a whole. Raises BadInput, with the nearest names, when there is none."""
    names = list(names)
    try:
        found = [n for n in names if re.fullmatch(pattern, n)]
    except re.error as error:
        raise BadInput(f"pattern {pattern!r} is not a regular expression: {error}") from None
    if not found:
        near = difflib.get_close_matches(pattern.replace("\\", ""), names, n=3, cutoff=0.0)
        raise BadInput(f"pattern {pattern!r} matches no parameter; the nearest names are {', '.join(near) or '(none)'}")
    return found


def select(tree: Tree, patterns: Iterable[str]) -> set[str]:
    """Union of the names that the patterns match; each pattern must match at least one."""
    names = flatten(tree)
    return {name for pattern in patterns for name in matches(pattern, names)}


def partition(tree: Tree, names: Collection[str]) -> tuple[Tree, Tree]:
    """Split into (leaves whose names are among `names`, the others); `merge` puts them together again."""
    flat = flatten(tree)
    inside = {n: v for n, v in flat.items() if n in names}
    return unflatten(inside), unflatten({n: v for n, v in flat.items() if n not in names})


def merge(*trees: Tree) -> Tree:
    """Union of trees with disjoint leaves. Raises ValueError when a leaf appears twice."""
    flat: dict[str, Any] = {}
    for tree in trees:
        for name, value in flatten(tree).items():
            if name in flat:
                raise ValueError(f"{name!r} appears in two of the trees")
            flat[name] = value
    return unflatten(flat)


def overlay(tree: Tree, newer: Tree) -> Tree:
    """`tree` with the leaves of `newer` in place of its own. Raises ValueError where `newer` has leaves of its own."""
    flat, new = flatten(tree), flatten(newer)
    if strange := new.keys() - flat:
        raise ValueError(f"{', '.join(sorted(strange))}: not in the tree")
    return unflatten({**flat, **new})


def cast(tree: Tree, dtype) -> Tree:
    """Floating-point leaves to `dtype`; integers and bools stay."""
    return jax.tree.map(lambda x: x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x, tree)


def norm(tree: Tree) -> jax.Array:
    """Euclidean norm over all leaves, accumulated in float32."""
    squares = [jnp.sum(jnp.square(x.astype(jnp.float32))) for x in jax.tree.leaves(tree)]
    return jnp.sqrt(sum(squares, jnp.float32(0)))


def difference(expected: Mapping[str, tuple[int, ...]], got: Mapping[str, tuple[int, ...]]) -> str:
    """All missing, unknown and misshaped names of `got`, one line each; empty when there is nothing to say."""
    lines = [f"missing: {n} {tuple(expected[n])}" for n in expected if n not in got]
    lines += [f"unknown: {n} {tuple(got[n])}" for n in got if n not in expected]
    both = [n for n in expected if n in got and tuple(expected[n]) != tuple(got[n])]
    lines += [f"wrong shape: {n} is {tuple(got[n])}, must be {tuple(expected[n])}" for n in both]
    return "\n".join(lines)


def get(tree: Tree, name: str) -> Any:
    """The leaf or branch with that dotted name."""
    for key in name.split("."):
        tree = tree[key]
    return tree
