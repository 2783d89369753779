"""A run before its first step: which leaf moves, which device holds what, the compiled step. No array is made here."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding

from sadist_jax import tree
from sadist_jax.errors import BadInput
from sadist_jax.methods.method import Method
from sadist_jax.parallel import mesh as meshes
from sadist_jax.parallel import shard
from sadist_jax.parallel.mesh import MeshSpec
from sadist_jax.parallel.shard import ShardSpec
from sadist_jax.train import optim as optimisers
from sadist_jax.train import state as states
from sadist_jax.train import step as steps_
from sadist_jax.train.optim import Optim
from sadist_jax.train.state import Layout, State
from sadist_jax.typing import Params


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """Everything of a run that follows from its description and the devices.

    `template` is the state as shapes with shardings (what a checkpoint is restored into); `frozen` likewise.
    """

    method: Method
    layout: Layout
    tx: optax.GradientTransformationExtraArgs
    mesh: Mesh
    seed: int
    template: State
    frozen: Params
    step: steps_.Step

    @property
    def rows(self) -> NamedSharding:
        return shard.rows(self.mesh)

    def create(self, values: Mapping[str, np.ndarray]) -> State:
        """The state before the first step, with `values` (by leaf name) in place of initialisers."""
        shardings = jax.tree.map(lambda leaf: leaf.sharding, self.template)
        return states.create(self.layout, self.tx, values, self.seed, shardings)

    def create_frozen(self, values: Mapping[str, np.ndarray]) -> Params:
        """What never moves."""
        shardings = jax.tree.map(lambda leaf: leaf.sharding, self.frozen)
        return states.fill_frozen(self.layout.frozen, values, states.init_key(self.seed), self.frozen, shardings)


def make(
    method: Method,
    *,
    steps: int,
    global_batch: int,
    seed: int = 0,
    optim: Optim,
    mesh: MeshSpec,
    shard_spec: ShardSpec,
    freeze: Iterable[str] = (),
    devices: Sequence[Any] | None = None,
    memory: int | None = None,
    node: int | None = None,
) -> Plan:
    """Lay a run out on the devices.

    devices, memory, node: other devices than this machine's, the bytes that JAX may use of one, and how many of them
      have a fast network.

    Raises:
      BadInput: a pattern that matches nothing, a mesh that does not fit the devices, or a batch that they cannot share.
    """
    layout = states.arrange(method, freeze)
    shard.check(shard_spec, tree.flatten(layout.all()))
    names = tree.flatten(method.table()["params"])
    tx = optimisers.build(optim, steps, layout.params, names)
    rate = optimisers.rate(optim, steps)
    state, frozen = states.abstract(layout, tx), states.abstract_frozen(layout.frozen, shard_spec.rounded)
    held = shard.held(shard_spec, (state, frozen, state.params))  # and a gradient
    grid = meshes.make(mesh, devices, held=held, memory=memory, node=node)
    _check_batch(global_batch, grid, optim.accumulate)
    state_shardings = shard.shardings(shard_spec, grid, state)
    frozen_shardings = shard.shardings(shard_spec, grid, frozen)
    step = steps_.build(
        method,
        layout,
        tx,
        rate,
        seed=seed,
        accumulate=optim.accumulate,
        mesh=grid,
        shardings=state_shardings,
        frozen_shardings=frozen_shardings,
        spike=optim.spike,
    )
    template = jax.tree.map(_with_sharding, state, state_shardings)
    frozen = jax.tree.map(_with_sharding, frozen, frozen_shardings)
    return Plan(method, layout, tx, grid, seed, template, frozen, step)


def _check_batch(global_batch: int, grid: Mesh, accumulate: int) -> None:
    shares = grid.shape["data"] * grid.shape["fsdp"]
    if global_batch % (shares * accumulate):
        raise BadInput(
            f"global_batch = {global_batch} does not fit {shares} device(s) x {accumulate} micro-batches"
            f"; make it a multiple of {shares * accumulate}"
        )


def _with_sharding(leaf: jax.ShapeDtypeStruct, sharding: NamedSharding) -> Any:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)
