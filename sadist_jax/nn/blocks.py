"""A tower of blocks, one after another: unrolled, or as a scan whose blocks are computed again in the backward pass."""

from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

import jax
import jax.numpy as jnp

from sadist_jax.typing import Array, Params

Kind = TypeVar("Kind", bound=Hashable)


def tower(
    block: Callable[[Params, Array, Kind], Array],
    params: Params,
    x: Array,
    kinds: Sequence[Kind],
    *,
    remat: bool,
) -> tuple[Array, dict[str, Array]]:
    """`x = block(params[str(i)], x, kinds[i])` for each i -> (x, {"block<i>": the output of block i}).

    kinds: what tells blocks apart beside their weights, such as the side of a window; the shortest pattern of kinds
      that repeats is the body of the scan (SAM: some blocks of windows and one of global attention). Blocks with other
      leaves, as adapters in some of them, are of another kind; without a pattern the scan is one step of all blocks.
    remat: save only the input of each block for the backward pass, and compute the rest again. A scan, because XLA
      undoes the recomputation of unrolled blocks on its CPU backend, and because one body compiles sooner than many.
      Weights of equal blocks are stacked for it: a copy of them for the length of the call.
    """
    if not remat:
        aux = {}
        for i, kind in enumerate(kinds):
            x = aux[f"block{i}"] = block(params[str(i)], x, kind)
        return x, aux

    n = period([(kind, _form(params[str(i)])) for i, kind in enumerate(kinds)])
    rows = [[params[str(start + i)] for start in range(0, len(kinds), n)] for i in range(n)]
    stacked = [jax.tree.map(lambda *leaves: jnp.stack(leaves), *row) for row in rows]
    once = jax.checkpoint(block, static_argnums=2)

    def body(x: Array, group: list[Params]) -> tuple[Array, list[Array]]:
        outputs = []
        for weights, kind in zip(group, kinds[:n], strict=True):
            x = once(weights, x, kind)
            outputs.append(x)
        return x, outputs

    x, outputs = jax.lax.scan(body, x, stacked)
    return x, {f"block{i}": outputs[i % n][i // n] for i in range(len(kinds))}


def _form(weights: Params) -> Hashable:
    """Names and shapes: equal for blocks whose weights can be stacked."""
    return jax.tree.structure(weights), tuple(leaf.shape for leaf in jax.tree.leaves(weights))


def period(kinds: Sequence[Hashable]) -> int:
    """Length of the shortest pattern that makes up `kinds` when repeated: 3 for (w, w, g, w, w, g)."""
    whole = tuple(kinds)
    return next(n for n in range(1, len(whole) + 1) if len(whole) % n == 0 and whole[:n] * (len(whole) // n) == whole)
