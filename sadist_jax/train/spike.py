"""Steps that stand out: the running mean and spread of the loss and of the gradient norm, and what lies far above them.

With x_n the loss (or the norm) of the n-th step that was not skipped, and a_n = max(1/n, 1/WINDOW),

    mean_n = mean_{n-1} + a_n (x_n - mean_{n-1})
    var_n  = (1 - a_n) (var_{n-1} + a_n (x_n - mean_{n-1})^2)

which are the plain mean and variance of the first WINDOW values, and of later ones an exponential average with the
memory of WINDOW (West, Updating mean and variance estimates, 1979; Finch, Incremental calculation of weighted mean and
variance, 2009). A step is a spike if the loss or the norm exceeds mean + k sqrt(var), once WARMUP steps have counted.

Source of the idea: skip-step of OLMo 2 (arXiv:2501.00656, its released optimiser: 128 steps, k = 6). The statistics are
part of the optimiser's state, so that a run that is resumed judges as the unbroken one does.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from sadist_jax.typing import Array, Bool, Float

WINDOW, WARMUP = 128, 32  # steps; the second is ours


class Spread(NamedTuple):
    """count: steps that counted. mean, var (2,): of the loss and of the gradient norm."""

    count: Array
    mean: Array
    var: Array


def watch() -> optax.GradientTransformationExtraArgs:
    """Lets updates pass and keeps a `Spread`; its `update` takes `loss=` and `grad_norm=`."""

    def init(params: optax.Params) -> Spread:
        return Spread(jnp.zeros((), jnp.int32), jnp.zeros(2), jnp.zeros(2))

    def update(updates, state, params=None, **extra):
        count = state.count + 1
        share = jnp.maximum(1 / count, 1 / WINDOW)
        away = jnp.stack([extra["loss"], extra["grad_norm"]]) - state.mean
        var = (1 - share) * (state.var + share * away**2)
        return updates, Spread(count, state.mean + share * away, var)

    return optax.GradientTransformationExtraArgs(init, update)


def is_spike(
    opt_state: optax.OptState, loss: Float[Array, ""], grad_norm: Float[Array, ""], k: float
) -> Bool[Array, ""]:
    """Whether a step with this loss and gradient norm stands out, as the `Spread` in the optimiser's state has it."""
    leaves = jax.tree.leaves(opt_state, is_leaf=lambda x: isinstance(x, Spread))
    (spread,) = (leaf for leaf in leaves if isinstance(leaf, Spread))
    above = jnp.stack([loss, grad_norm]) > spread.mean + k * jnp.sqrt(spread.var)
    return above.any() & (spread.count >= WARMUP)
