"""What a run carries from step to step, how its leaves are sorted, and how they get their first values."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from sadist_jax import tree
from sadist_jax.methods.method import Method
from sadist_jax.nn import table as leaves
from sadist_jax.nn.table import Table
from sadist_jax.parallel import hosts
from sadist_jax.typing import Key, Params

_INIT = 2**32 - 1  # folded into the run's key for the start values, so that they share no key with a step


@flax.struct.dataclass
class State:
    """What a checkpoint holds. There is no key in it: step n uses fold_in(key(seed), n)."""

    step: Any  # int32, number of steps done
    params: Params  # what the optimiser moves
    opt_state: optax.OptState
    extra: Params  # what moves without gradient


@dataclasses.dataclass(frozen=True, eq=False)
class Layout:
    """The method's tables after freezing: `held` names the leaves of its `params` that this run keeps in `frozen`."""

    params: Table
    frozen: Table
    extra: Table
    held: frozenset[str]

    def rejoin(self, params: Params, frozen: Params) -> tuple[Params, Params]:
        """(params, frozen) as the method knows them."""
        held, own = self.split(frozen)
        return tree.merge(params, held), own

    def split(self, frozen: Params) -> tuple[Params, Params]:
        """(parameters that this run holds still, what the method itself freezes)."""
        return tree.partition(frozen, self.held)

    def all(self) -> Table:
        """Every leaf of the run. Raises ValueError where a name appears twice: no pattern could tell them apart."""
        return tree.merge(self.params, self.frozen, self.extra)


def arrange(method: Method, freeze: Iterable[str] = ()) -> Layout:
    """Sort the method's leaves: those that `freeze` matches, and those that are no weights, go from params to frozen.

    Raises:
      BadInput: a pattern matches no parameter.
    """
    tables = method.table()
    no_weights = {name for name, leaf in tree.flatten(tables["params"]).items() if leaf.role != "weight"}
    held = tree.select(tables["params"], freeze) | no_weights
    still, moving = tree.partition(tables["params"], held)
    layout = Layout(moving, tree.merge(tables["frozen"], still), tables["extra"], frozenset(held))
    layout.all()
    return layout


def abstract(layout: Layout, tx: optax.GradientTransformation) -> State:
    """The state as shapes: restore template, and what shardings are made for."""
    params = leaves.abstract(layout.params)
    opt_state = jax.eval_shape(tx.init, params)
    return State(jax.ShapeDtypeStruct((), jnp.int32), params, opt_state, leaves.abstract(layout.extra))


def init_key(seed: int) -> Key:
    return jax.random.fold_in(jax.random.key(seed), _INIT)


def brought(table: Table) -> dict[str, np.ndarray]:
    """{leaf name: value} of the leaves that bring their start values along."""
    flat = tree.flatten(table)
    return {name: np.asarray(leaf.init.value) for name, leaf in flat.items() if isinstance(leaf.init, leaves.Given)}


def fill(table: Table, values: Mapping[str, np.ndarray], key: Key, shardings: Any) -> Params:
    """Arrays for a table, each made where it will live: `values` where there is one, the leaf's own init elsewhere.

    No initialiser runs for a leaf that has a value, and no device ever sees more of a leaf than its own part.
    """
    where = tree.flatten(shardings)
    values = {**{name: hosts.agreed(value) for name, value in brought(table).items()}, **values}
    rest = {name: leaf for name, leaf in tree.flatten(table).items() if name not in values}
    missing = tree.unflatten(rest)
    made = jax.jit(lambda key: leaves.init(missing, key), out_shardings=tree.unflatten({n: where[n] for n in rest}))(
        key
    )
    given = {name: hosts.place(values[name], where[name], np.float32) for name in where if name not in rest}
    return tree.unflatten({**tree.flatten(made), **given})


def abstract_frozen(table: Table, rounded: Iterable[str] = ()) -> Params:
    """What never moves, as shapes: in bfloat16 where a pattern of `rounded` matches, else in float32."""
    low = tree.select(table, rounded)

    def one(name: str, leaf: leaves.Leaf) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(leaf.shape, jnp.bfloat16 if name in low else jnp.float32)

    return tree.map_named(one, table)


def fill_frozen(table: Table, values: Mapping[str, np.ndarray], key: Key, abstract: Params, shardings: Any) -> Params:
    """`fill` in the types of `abstract_frozen`."""
    return jax.tree.map(lambda value, leaf: value.astype(leaf.dtype), fill(table, values, key, shardings), abstract)


def create(
    layout: Layout, tx: optax.GradientTransformation, values: Mapping[str, np.ndarray], seed: int, shardings: State
) -> State:
    """The state before the first step."""
    key = init_key(seed)
    params = fill(layout.params, values, key, shardings.params)
    extra = fill(layout.extra, values, key, shardings.extra)
    opt_state = jax.jit(tx.init, out_shardings=shardings.opt_state)(params)
    step = hosts.place(np.zeros((), np.int32), shardings.step)
    return State(step, params, opt_state, extra)
