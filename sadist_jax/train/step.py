"""One step of any method, as one compiled function: gradient, guard, update, averages, metrics.

Accumulation. The loss is L = sum_i c_i T_i / W_i with T_i and W_i summed over the whole batch, and no W_i depends on
the parameters. So a first pass over the micro-batches sums the W_i (the compiler drops all that they do not need), and
the second adds the gradients of sum_i c_i T_im / W_i over the micro-batches m: their sum is the gradient of L, whatever
the rows are split into, and however unevenly instances lie in them.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from sadist_jax import tree
from sadist_jax.methods.method import Aux, Method, Terms
from sadist_jax.ops.each import ROWS
from sadist_jax.parallel import shard
from sadist_jax.train import spike as spikes
from sadist_jax.train.state import Layout, State
from sadist_jax.typing import Array, Batch, Metrics, Params

STOP = "asked to stop"  # a row of the batch, above 0 where a process was; no array of a transform has such a name
Step = Callable[[State, Params, Batch], tuple[State, Metrics]]


def build(
    method: Method,
    layout: Layout,
    tx: optax.GradientTransformationExtraArgs,
    rate: Callable[[Array], Array],
    *,
    seed: int,
    accumulate: int,
    mesh: Mesh,
    shardings: State,
    frozen_shardings: Any,
    spike: float | None = None,
) -> Step:
    """The jitted step: (state, frozen, batch) -> (state, metrics); the state that goes in is used up.

    Metrics are {name: (total, weight)}: loss, its terms, what the method adds, gradient norm, learning rate, `skipped`.
    A step whose loss or gradient is not finite, or a spike (train/spike.py), changes nothing but the step number, and
    adds only to `skipped`. The sum of the rows called STOP, where the batch has them, is a metric too: no collective of
    its own lets all hosts know of the same step that one of them was asked to stop.
    """

    def step(state: State, frozen: Params, batch: Batch) -> tuple[State, Metrics]:
        key = jax.random.fold_in(jax.random.key(seed), state.step)
        asked, batch = batch.get(STOP), {name: rows for name, rows in batch.items() if name != STOP}

        def loss(params: Params, rows: Batch) -> tuple[Terms, Aux]:
            held = (params, frozen, state.extra), (shardings.params, frozen_shardings, shardings.extra)
            moving, still, extra = _computed(*held)
            with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):  # where layers gather their weights
                return method.loss(*layout.rejoin(moving, still), extra, rows, key, state.step)

        grads, metrics, moved = _gradient(loss, state.params, batch, accumulate, shardings.params)
        grad_norm = tree.norm(grads)
        total = metrics["loss"][0]
        kept = jnp.isfinite(total) & jnp.isfinite(grad_norm)
        if spike is not None:
            kept &= ~spikes.is_spike(state.opt_state, total, grad_norm, spike)

        updates, opt_state = tx.update(
            grads, state.opt_state, state.params, step=state.step, loss=total, grad_norm=grad_norm
        )
        params = optax.apply_updates(state.params, updates)
        extra = tree.overlay(state.extra, moved)
        extra = method.after_step(layout.rejoin(params, frozen)[0], extra, state.step)
        new = State(state.step, params, opt_state, extra)
        new = jax.tree.map(lambda a, b: jnp.where(kept, a, b), new, state)

        one = jnp.float32(1)
        metrics |= {"grad_norm": (grad_norm, one), "lr": (rate(state.step), one)}
        metrics = jax.tree.map(lambda x: jnp.where(kept, x, 0.0).astype(jnp.float32), metrics)
        metrics["skipped"] = (jnp.where(kept, 0.0, 1.0), one)
        if asked is not None:
            metrics[STOP] = (jnp.sum(asked), one)
        return new.replace(step=state.step + 1), metrics

    rows = shard.rows(mesh)
    return jax.jit(
        step,
        in_shardings=(shardings, frozen_shardings, rows),
        out_shardings=(shardings, shard.replicated(mesh)),
        donate_argnums=0,
    )


def ratio(total: Array, weight: Array) -> Array:
    """total / weight, and 0 where the weight is 0, with a gradient that is finite there too."""
    return jnp.where(weight == 0, 0.0, total / jnp.where(weight == 0, 1.0, weight))


def _computed(leaves: Any, shardings: Any) -> Any:
    """On a mesh with a tensor axis, leaves without their cut along fsdp; on others the layers do that, one by one."""
    if jax.tree.leaves(shardings)[0].mesh.shape["tensor"] == 1:
        return leaves
    return jax.lax.with_sharding_constraint(leaves, jax.tree.map(shard.computed, shardings))


def _gradient(
    loss: Callable[[Params, Batch], tuple[Terms, Aux]], params: Params, batch: Batch, parts: int, shardings: Any
) -> tuple[Params, Metrics, Params]:
    """Gradient of the training loss, cut as the parameters are; metrics of the whole batch: "loss", each term, the
    method's own; aux["moved"].

    What the forward pass moves is averaged over the micro-batches, which all start from the same values: for a moving
    average this is the average's own step with the mean statistic.
    """

    def weights(rows: Batch) -> dict[str, Array]:
        return {name: weight for name, (_, weight, _) in loss(params, rows)[0].items()}

    mesh = jax.tree.leaves(shardings)[0].mesh
    whole = None if parts == 1 else _sum_over_parts(weights, batch, parts, mesh)

    def objective(params: Params, rows: Batch) -> tuple[Array, tuple[Metrics, Params]]:
        terms, aux = loss(params, rows)
        over = {name: terms[name][1] if whole is None else whole[name] for name in terms}
        shares = {name: c * ratio(t, jax.lax.stop_gradient(over[name])) for name, (t, _, c) in terms.items()}
        total = sum(shares.values(), jnp.zeros(()))
        # the loss is a share of the whole already: its weight is counted once, whatever the number of parts
        logged = {"loss": (total, jnp.float32(1 / parts)), **{name: (t, w) for name, (t, w, _) in terms.items()}}
        moved = jax.tree.map(lambda x: x / parts, aux.get("moved", {}))
        return total, (logged | aux.get("metrics", {}), moved)

    def part(rows: Batch) -> tuple[Params, Metrics, Params]:
        grads, aux = jax.grad(objective, has_aux=True)(params, rows)
        return jax.lax.with_sharding_constraint(grads, shardings), *jax.lax.stop_gradient(aux)

    return _sum_over_parts(part, batch, parts, mesh)


def _sum_over_parts(fn: Callable[[Batch], Any], batch: Batch, parts: int, mesh: Mesh) -> Any:
    """Sum of fn(micro-batch). Rows are dealt out in turn, so that every device keeps the rows that it has."""
    if parts == 1:
        return fn(batch)
    inside = NamedSharding(mesh, PartitionSpec(None, ROWS))

    def deal(x: Array) -> Array:
        x = x.reshape(x.shape[0] // parts, parts, *x.shape[1:]).swapaxes(0, 1)
        return jax.lax.with_sharding_constraint(x, inside)

    micro = jax.tree.map(deal, batch)
    first = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), micro)
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(fn, first))
    return jax.lax.scan(lambda total, rows: (jax.tree.map(jnp.add, total, fn(rows)), None), zeros, micro)[0]
