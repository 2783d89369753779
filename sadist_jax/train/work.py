"""How much a traced function computes: the products of matrices in its jaxpr, times the turns of the loops around them.

A multiplication and an addition are two operations; what is not a matrix product or a convolution is free. Forward,
backward and what is computed again are all in the jaxpr of a training step; what the compiler would drop, because
nothing needs its result, is dropped first.

    traced = jax.jit(step).trace(*arguments)
    count(traced.jaxpr).flops
"""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

from jax.interpreters import partial_eval


@dataclasses.dataclass(frozen=True)
class Work:
    """Sums over the products of a program.

    narrow, wide: operations on 16 bits or fewer, and on more.
    nbytes: of operands and results: what goes through memory if everything else is fused into the products.
    unbounded: `while` loops with products in them, of which nothing says how often they turn; each is counted once.
    """

    narrow: int = 0
    wide: int = 0
    nbytes: int = 0
    unbounded: int = 0

    @property
    def flops(self) -> int:
        return self.narrow + self.wide

    def __add__(self, other: "Work") -> "Work":
        pairs = zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)
        return Work(*(a + b for a, b in pairs))

    def __mul__(self, times: int) -> "Work":
        return Work(self.narrow * times, self.wide * times, self.nbytes * times, self.unbounded)


def count(jaxpr: Any) -> Work:
    """Of a (closed) jaxpr: all devices together, where it describes several."""
    jaxpr = _open(jaxpr)
    needed, _ = partial_eval.dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))
    return _sum(needed)


def _sum(jaxpr: Any) -> Work:
    return sum((_of(equation) for equation in _open(jaxpr).eqns), Work())


def _of(equation: Any) -> Work:
    name, params = equation.primitive.name, equation.params
    if name == "dot_general":
        return _product(equation, _dot(equation))
    if name == "conv_general_dilated":
        return _product(equation, _convolution(equation))
    inside = [_sum(jaxpr) for jaxpr in _jaxprs(params)]
    if name == "cond":  # one of them runs
        return max(inside, key=lambda work: work.flops)
    total = sum(inside, Work())
    if name == "scan":
        return total * params["length"]
    if name == "while":
        return total + Work(unbounded=1 if total.flops and not total.unbounded else 0)
    if name == "shard_map":  # written for one device
        (axes,) = (value for key, value in params.items() if key.endswith("manual_axes"))  # its name has changed
        return total * math.prod(params["mesh"].shape[axis] for axis in axes)
    return total


def _product(equation: Any, flops: int) -> Work:
    avals = [var.aval for var in (*equation.invars, *equation.outvars)]
    nbytes = sum(aval.size * aval.dtype.itemsize for aval in avals)
    if max(aval.dtype.itemsize for aval in avals[:2]) <= 2:
        return Work(narrow=flops, nbytes=nbytes)
    return Work(wide=flops, nbytes=nbytes)


def _dot(equation: Any) -> int:
    (contracted, _), _ = equation.params["dimension_numbers"]
    left = equation.invars[0].aval.shape
    return 2 * equation.outvars[0].aval.size * math.prod(left[axis] for axis in contracted)


def _convolution(equation: Any) -> int:
    """Taps that fall on the zeros between the dilated pixels are free, those on the padding are not."""
    params, kernel = equation.params, equation.invars[1].aval
    taps = kernel.size // kernel.shape[params["dimension_numbers"].rhs_spec[0]]
    return 2 * equation.outvars[0].aval.size * taps // math.prod(params["lhs_dilation"])


def _jaxprs(params: Any) -> Iterator[Any]:
    for value in params.values():
        for one in value if isinstance(value, tuple | list) else (value,):
            if hasattr(_open(one), "eqns"):
                yield one


def _open(jaxpr: Any) -> Any:
    """Without its constants."""
    return getattr(jaxpr, "jaxpr", jaxpr)
