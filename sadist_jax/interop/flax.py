"""Flax beside ours: a model of ours as an NNX module, and modules of NNX or Linen as students and teachers of ours.

Weights keep Flax's names and layout in runs and files of ours: `student.blocks.0.kernel`. Conversion is the user's own
`load`: each adapter gives the module back, filled (`module`, `variables`).
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen, nnx

from sadist_jax import tree
from sadist_jax.errors import BadInput
from sadist_jax.nn.table import Given, Leaf, Table
from sadist_jax.typing import Array, Float, Int, Key, Params

VARIABLES = {"weight": nnx.Param, "stat": nnx.BatchStat, "buffer": nnx.Variable}


class OursInNnx(nnx.Module):
    """Any model of ours as an NNX module: `module(*inputs)` is `model.apply(params, *inputs)`.

    Its weights are nnx.Param under their checkpoint names, statistics nnx.BatchStat, what never moves nnx.Variable.

    Example:
      module = OursInNnx(Vit.mini(), rngs=nnx.Rngs(0))
      features, aux = module(jnp.zeros((1, 128, 128, 3)))
      optimizer = nnx.Optimizer(module, optax.adamw(1e-3), wrt=nnx.Param)
    """

    def __init__(self, model: Any, params: Params | None = None, *, rngs: nnx.Rngs | None = None):
        """params: of `sadist_jax.load`; None: start values from `rngs`. Raises BadInput when both are missing."""
        if params is None:
            if rngs is None:
                raise BadInput("give params, or rngs=nnx.Rngs(0) for start values")
            params = model.init(rngs.params())
        self.model = model
        self.weights = _variables(model.table(), params)

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        return self.model.apply(self.params(), *inputs, **options)

    def params(self) -> Params:
        """The weights as ours are: for `sadist_jax.save`, and for functions that take params."""
        return _values(self.weights)


def _variables(table: Table, start: Params) -> nnx.Dict:
    def node(leaf: Any, value: Any) -> Any:
        if isinstance(leaf, Leaf):
            return VARIABLES[leaf.role](jnp.array(value))
        return nnx.Dict({name: node(below, value[name]) for name, below in leaf.items()})

    return node(table, start)


def _values(weights: nnx.Dict) -> Params:
    return {name: _values(x) if isinstance(x, nnx.Dict) else x[...] for name, x in weights.items()}


@dataclasses.dataclass(frozen=True)
class NnxModel:
    """An NNX module as an encoder of ours: normalised image (b, H, W, 3) -> map (b, h, w, c). Made by `of`.

    Its Params are weights, its BatchStats statistics; the keys of its random streams are drawn anew from the step's key
    at every call, so there is none in a checkpoint; all else stays as it is.
    """

    name: str
    training: nnx.GraphDef = dataclasses.field(repr=False)
    evaluating: nnx.GraphDef = dataclasses.field(repr=False)
    start: Mapping[tuple, nnx.Variable] = dataclasses.field(repr=False, compare=False)

    @classmethod
    def of(cls, module: nnx.Module, **fields: Any) -> "NnxModel":
        """The module and its weights as they are now; later changes of the module are not seen."""
        module = nnx.clone(module)
        module.train()
        training, _ = nnx.split(module)
        module.eval()
        evaluating, state = nnx.split(module)
        start = {tuple(path): variable for path, variable in nnx.to_flat_state(state)}
        return cls(type(module).__name__, training, evaluating, start, **fields)

    def table(self) -> Table:
        leaves = {_name(path): _leaf(variable) for path, variable in self.start.items() if _is_leaf(variable)}
        return tree.unflatten(leaves)

    def apply(self, params: Params, x: Float[Array, "b H W 3"]) -> tuple[Float[Array, "b h w c"], dict]:
        """The module in evaluation mode."""
        return self.module(params)(x), {}

    def train(self, params: Params, x: Float[Array, "b H W 3"], key: Key) -> tuple[Float[Array, "b h w c"], dict]:
        """The module in training mode; aux["stats"] are its new BatchStats."""
        module = nnx.merge(self.training, self._state(params, key))
        out = module(x)
        moved = nnx.to_flat_state(nnx.state(module, nnx.BatchStat))
        stats = {_name(path): variable[...] for path, variable in moved if _is_leaf(variable)}
        return out, {"stats": tree.unflatten(stats)}

    def module(self, params: Params) -> Any:
        """The module with these weights, in evaluation mode."""
        return nnx.merge(self.evaluating, self._state(params, jax.random.key(0)))

    def _state(self, params: Params, key: Key) -> nnx.State:
        flat, state = tree.flatten(params), {}
        for i, (path, variable) in enumerate(self.start.items()):
            value = variable.get_value()
            if _is_leaf(variable):
                value = jnp.asarray(flat[_name(path)], value.dtype)
            elif isinstance(variable, nnx.RngKey):
                value = jax.random.split(jax.random.fold_in(key, i), value.shape)  # several, where layers are vmapped
            state[path] = variable.replace(value)  # a new variable, which this trace may change
        return nnx.from_flat_state(state)


@dataclasses.dataclass(frozen=True)
class NnxTokens(NnxModel):
    """An NNX module as a student of `Sami`: with `embed(x) -> (b, h, w, c)` and `encode(tokens, positions) -> tokens`.

    dim: channels of a token; grid: tokens along a side at `image_size` px; see methods.student.TokenEncoder. SAMI calls
    it in evaluation mode, and its forward pass may move nothing: `of` refuses batch statistics.
    """

    dim: int = dataclasses.field(kw_only=True)
    grid: int = dataclasses.field(kw_only=True)
    image_size: int = dataclasses.field(kw_only=True)

    def __post_init__(self):
        if stats := [_name(path) for path, v in self.start.items() if isinstance(v, nnx.BatchStat)]:
            raise BadInput(f"{self.name} has batch statistics ({stats[0]}), which masked tokens have none of")

    def embed(self, params: Params, x: Float[Array, "b H W 3"]) -> Float[Array, "b h w c"]:
        return self.module(params).embed(x)

    def encode(
        self, params: Params, x: Float[Array, "b t c"], positions: Int[Array, "b t"]
    ) -> tuple[Float[Array, "b t c"], dict]:
        return self.module(params).encode(x, positions), {}


def _name(path: tuple) -> str:
    return ".".join(map(str, path))


def _is_leaf(variable: nnx.Variable) -> bool:
    value = variable.get_value()
    return not isinstance(variable, nnx.RngState) and jnp.issubdtype(value.dtype, jnp.floating)


def _leaf(variable: nnx.Variable) -> Leaf:
    value = variable.get_value()
    role = "weight" if isinstance(variable, nnx.Param) else "stat" if isinstance(variable, nnx.BatchStat) else "buffer"
    return Leaf(tuple(value.shape), Given(value), role=role)


@dataclasses.dataclass(frozen=True)
class LinenModel:
    """A Linen module as an encoder of ours: normalised image (b, H, W, 3) -> map (b, h, w, c).

    module: the Linen module.
    start: what `module.init` returned, or variables from elsewhere: {"params": ..., "batch_stats": ...}.
    training, evaluating: keyword arguments of its call, as pairs: (("train", True),), (("deterministic", True),), ...
    streams: names of its random streams.
    """

    module: linen.Module
    start: Mapping[str, Any] = dataclasses.field(repr=False, compare=False)
    training: tuple[tuple[str, Any], ...] = ()
    evaluating: tuple[tuple[str, Any], ...] = ()
    streams: tuple[str, ...] = ("dropout",)

    def table(self) -> Table:
        def leaf(name: str, value: Any) -> Leaf:
            collection = name.partition(".")[0]
            role = "weight" if collection == "params" else "stat" if collection == "batch_stats" else "buffer"
            return Leaf(np.shape(value), Given(value), role=role)

        return tree.map_named(leaf, self.start)

    def apply(self, params: Params, x: Float[Array, "b H W 3"]) -> tuple[Float[Array, "b h w c"], dict]:
        """The module with the arguments of `evaluating`."""
        out: Any = self.module.apply(params, x, **dict(self.evaluating))
        return out, {}

    def train(self, params: Params, x: Float[Array, "b H W 3"], key: Key) -> tuple[Float[Array, "b h w c"], dict]:
        """The module with the arguments of `training`; aux["stats"] are its new batch statistics."""
        keys = dict(zip(self.streams, jax.random.split(key, len(self.streams)), strict=True))
        options = dict(self.training)
        out, moved = cast(Any, self.module.apply(params, x, **options, rngs=keys, mutable=["batch_stats"]))
        return out, {"stats": dict(moved)}
