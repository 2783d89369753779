"""The optimiser of a run, as numbers: AdamW with warm-up, weight decay and learning rates by name, clipping, averaging.

Update of leaf p at step t (Loshchilov and Hutter 2019, arXiv:1711.05101, with a rate of its own for every leaf):

    p <- p - rate(t) * m_p * (adam(g)_p + weight_decay * d_p * p)

where m_p = layer_decay ** (depth from the top) * multipliers, d_p is 1 or 0, and g is clipped by its global norm.
"""

import dataclasses
import re
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
import optax.contrib

from sadist_jax import tree
from sadist_jax.errors import BadInput
from sadist_jax.train import spike
from sadist_jax.typing import Array, Params

MUON_RMS = 0.2

_EMBEDDING = re.compile(r"(?:.*\.)?(?:patch_embed|pos_embed|cls_token|mask_token|register_tokens)(?:\..*)?")
_BLOCK = re.compile(r"((?:.*\.)?)blocks\.(\d+)\..*")


@dataclasses.dataclass(frozen=True)
class Optim:
    """Hyper-parameters; steps are optimiser steps, rates are per step, patterns match whole leaf names.

    Attributes:
      lr: highest learning rate, reached after `warmup` steps; scaling it with the batch is the config's business.
      schedule: what follows the warm-up, down to `final` * lr at the end; "steps": times `factor` at each milestone.
      warmup: number of steps over which the rate climbs linearly; the first step already has lr / warmup.
      milestones: steps counted from the start of the run ("steps" only).
      weight_decay: decoupled; leaves with at most one axis (biases, scales of norms) are never decayed.
      no_decay: patterns of further leaves without decay, such as `.*pos_embed` and `.*rel_pos_[hw]`.
      layer_decay: factor per layer below the top (1: off); see `depths`.
      layer_decay_prefix: where the blocks are, if the parameters hold several stacks of them: "image_encoder.".
      multipliers: (pattern, factor of the learning rate) pairs; where several match, they multiply.
      clip_norm: upper bound of the gradient's global norm; None for none.
      accumulate: micro-batches per step; the step equals the one of the full batch.
      muon: patterns of matrices whose momentum is orthogonalised instead of scaled by Adam (Jordan et al. 2024, Muon),
        and has the size of Adam's updates, 0.2 a number (Liu et al. 2025, arXiv:2502.16982): `lr` means the same.
      ema: decay of an average of the parameters, kept from the first step on; None for none.
      spike: skip a step whose loss or gradient norm exceeds its running mean by more than so many standard deviations
        (train/spike.py; OLMo's are 6); None for never.
    """

    lr: float = 1e-3
    schedule: Literal["cosine", "linear", "constant", "steps"] = "cosine"
    warmup: int = 0
    final: float = 0.0
    milestones: tuple[int, ...] = ()
    factor: float = 0.1
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.0
    no_decay: tuple[str, ...] = ()
    layer_decay: float = 1.0
    layer_decay_prefix: str = ""
    multipliers: tuple[tuple[str, float], ...] = ()
    clip_norm: float | None = None
    accumulate: int = 1
    muon: tuple[str, ...] = ()
    ema: float | None = None
    spike: float | None = None


def rate(spec: Optim, steps: int) -> Callable[[Array], Array]:
    """Learning rate as a function of the steps done so far, for a run of `steps` steps."""
    if 0 < steps <= spec.warmup:
        raise BadInput(
            f"optim.warmup = {spec.warmup} leaves nothing of a run of {steps} steps; give --optim.warmup below "
            f"{steps}, or --steps above {spec.warmup}"
        )
    begin = 0 if spec.schedule == "steps" else spec.warmup  # milestones count from the start of the run
    rest = max(steps - begin, 1)
    if spec.schedule == "cosine":
        decay = optax.cosine_decay_schedule(1.0, rest, alpha=spec.final)
    elif spec.schedule == "linear":
        decay = optax.linear_schedule(1.0, spec.final, rest)
    elif spec.schedule == "steps":
        decay = optax.piecewise_constant_schedule(1.0, dict.fromkeys(spec.milestones, spec.factor))
    else:
        decay = optax.constant_schedule(1.0)

    def at(step: Array) -> Array:
        climb = jnp.minimum(1.0, (step + 1) / max(spec.warmup, 1))
        return spec.lr * climb * decay(jnp.maximum(step - begin, 0))

    return at


def decayed(spec: Optim, params: Params) -> Params:
    """Tree of bools: which leaves weight decay moves (more than one axis, and not matched by `no_decay`)."""
    spared = tree.select(params, spec.no_decay)
    return tree.map_named(lambda name, leaf: len(leaf.shape) > 1 and name not in spared, params)


def depths(names: Iterable[str], prefix: str = "") -> tuple[dict[str, int], int]:
    """Layer of each leaf, and the number of the top layer, as in MAE's and BEiT's fine-tuning.

    Below `prefix`: embeddings (patch_embed, pos_embed, cls_token, mask_token, register_tokens) are layer 0,
    `blocks.<i>` is layer i + 1, and the rest is the top layer, number of blocks + 1. What is not below `prefix` is the
    top layer too. Raises BadInput where there are no blocks, or several stacks of them to choose from.
    """
    names = list(names)
    blocks = {n: m for n in names if n.startswith(prefix) and (m := _BLOCK.fullmatch(n))}
    stacks = sorted({m[1] for m in blocks.values()})
    if len(stacks) != 1:
        found = f"several: {', '.join(repr(s) for s in stacks)}" if stacks else "none"
        raise BadInput(
            f"optim.layer_decay needs one stack of blocks below optim.layer_decay_prefix = {prefix!r}, found {found}"
        )
    top = max(int(m[2]) for m in blocks.values()) + 2
    layer = {}
    for name in names:
        if name in blocks:
            layer[name] = int(blocks[name][2]) + 1
        else:
            layer[name] = 0 if name.startswith(stacks[0]) and _EMBEDDING.fullmatch(name) else top
    return layer, top


def multipliers(spec: Optim, params: Params, names: Iterable[str] | None = None) -> dict[str, float]:
    """Factor of the learning rate of each leaf. `names`: those of the whole model, where some leaves are frozen."""
    flat = tree.flatten(params)
    factor = dict.fromkeys(flat, 1.0)
    if spec.layer_decay != 1.0:
        layer, top = depths(flat if names is None else names, spec.layer_decay_prefix)
        factor = {name: spec.layer_decay ** (top - layer[name]) for name in flat}
    for pattern, value in spec.multipliers:
        for name in tree.matches(pattern, flat):
            factor[name] *= value
    return factor


class AverageState(NamedTuple):
    average: Params


def _average(decay: float) -> optax.GradientTransformation:
    """Keeps decay * average + (1 - decay) * parameters after the update; must come last in the chain."""

    def init(params: Params) -> AverageState:
        return AverageState(jax.tree.map(jnp.copy, params))  # not the same buffers: both are donated

    def update(updates, state, params=None):
        assert params is not None
        new = optax.apply_updates(params, updates)
        return updates, AverageState(optax.incremental_update(new, state.average, 1 - decay))

    return optax.GradientTransformation(init, update)


def _scale_at_step(at: Callable[[Array], Array], factors: Mapping[str, float]) -> optax.GradientTransformationExtraArgs:
    """-rate(step) * factor of the leaf. The run's own step counts, so that a skipped step uses up its place."""

    def init(params: Params) -> optax.EmptyState:
        return optax.EmptyState()

    def update(updates, state, params=None, **extra):
        lr = at(extra["step"])
        return tree.map_named(lambda name, u: -lr * factors[name] * u, updates), state

    return optax.GradientTransformationExtraArgs(init, update)


def _direction(spec: Optim, params: Params) -> optax.GradientTransformation:
    """Where to go from the gradient, before decay and learning rate: Adam's direction, or Muon's."""
    if not spec.muon:
        return optax.scale_by_adam(spec.b1, spec.b2, spec.eps)
    chosen = tree.select(params, spec.muon)
    if odd := sorted(name for name, leaf in tree.flatten(params).items() if name in chosen and len(leaf.shape) != 2):
        raise BadInput("optim.muon matches leaves that are no matrices; leave them out:\n" + "\n".join(odd))
    # a rate of -1 leaves the direction as it is: decay and rate come later in the chain
    parts: dict[Hashable, optax.GradientTransformation] = {
        "adam": optax.scale_by_adam(spec.b1, spec.b2, spec.eps),
        "muon": optax.contrib.muon(-1.0, eps=spec.eps, consistent_rms=MUON_RMS),
    }
    return optax.partition(parts, tree.map_named(lambda name, _: "muon" if name in chosen else "adam", params))


def build(
    spec: Optim, steps: int, params: Params, names: Iterable[str] | None = None
) -> optax.GradientTransformationExtraArgs:
    """The chain of optax pieces for `params` (arrays or shapes).

    Its `update` takes `step=`, the steps done so far; with `spec.spike` also `loss=` and `grad_norm=`.

    Raises:
      BadInput: a pattern that matches nothing, or a layer decay without one stack of blocks.
    """
    parts: list[optax.GradientTransformation] = [] if spec.spike is None else [spike.watch()]
    if spec.clip_norm is not None:
        parts.append(optax.clip_by_global_norm(spec.clip_norm))
    parts.append(_direction(spec, params))
    decay_mask = decayed(spec, params)
    if spec.weight_decay:
        parts.append(optax.add_decayed_weights(spec.weight_decay, decay_mask))
    parts.append(_scale_at_step(rate(spec, steps), multipliers(spec, params, names)))
    if spec.ema is not None:
        parts.append(_average(spec.ema))
    return optax.with_extra_args_support(optax.chain(*parts))


def average(opt_state: optax.OptState) -> Params | None:
    """The average of the parameters that the optimiser keeps (`Optim.ema`), or None."""
    found = [s for s in jax.tree.leaves(opt_state, is_leaf=_is_average) if _is_average(s)]
    return found[0].average if found else None


def _is_average(state: object) -> bool:
    return isinstance(state, AverageState)
