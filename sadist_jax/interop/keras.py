"""Keras beside ours: a model of ours as a Keras layer, and models of Keras and keras-hub as students and teachers.

Needs Keras on its JAX backend: KERAS_BACKEND=jax. Keras weights keep their names and layout in runs and files of ours,
with dots: `student.stem.conv.kernel`.
"""

import dataclasses
import os
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from sadist_jax import pretrained, tree
from sadist_jax.errors import BadInput
from sadist_jax.nn import table as tables
from sadist_jax.nn.table import Given, Leaf, Table
from sadist_jax.ops.pixels import MEAN, STD
from sadist_jax.typing import Array, Float, Key, Params

os.environ.setdefault("KERAS_BACKEND", "jax")  # nobody who imports this file wants another
try:
    import keras
except ModuleNotFoundError as error:
    raise BadInput("this needs Keras: pip install 'sadist_jax[keras]'") from error
if keras.backend.backend() != "jax":
    raise BadInput(
        f"Keras runs on {keras.backend.backend()} here, and this needs its JAX backend: set KERAS_BACKEND=jax before "
        "anything imports keras"
    )


@keras.saving.register_keras_serializable(package="sadist_jax")
class OursInKeras(keras.layers.Layer):
    """Any model of ours as a Keras layer that trains in `fit`, saves and loads.

    `layer(*inputs)` is the output of `model.apply(params, *inputs)` without its aux. The inputs of an encoder (Vit,
    VitDet, TinyVit) are normalised images; see the model's own `apply`.

    Example:
      layer = OursInKeras(Vit.mini())
      model = keras.Sequential([keras.Input((128, 128, 3)), layer, keras.layers.GlobalAveragePooling2D()])
    """

    def __init__(self, model: Any, params: Params | None = None, *, seed: int = 0, **options: Any):
        """params: of `sadist_jax.load`; None: start values from `seed`. `options` are a Keras layer's."""
        super().__init__(**options)
        self.model, self.seed = model, seed
        self._start = params

    def build(self, *shapes: Any) -> None:
        table = self.model.table()
        start = tables.init(table, jax.random.key(self.seed)) if self._start is None else self._start
        flat = tree.flatten(start)
        self._leaves = {
            name: self.add_weight(
                name=name,
                shape=leaf.shape,
                initializer=_constant(flat[name]),
                trainable=leaf.role == "weight",
            )
            for name, leaf in tree.flatten(table).items()
        }
        self._start = None  # the variables have it
        self.built = True

    def call(self, *inputs: Any) -> Any:
        return self.model.apply(self.params(), *inputs)[0]

    def params(self) -> Params:
        """The weights as ours are: for `sadist_jax.save`, and for functions that take params."""
        return tree.unflatten({name: jnp.asarray(variable) for name, variable in self._leaves.items()})

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "model": pretrained.as_text(self.model), "seed": self.seed}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "OursInKeras":
        return cls(pretrained.from_text(config.pop("model"), "this Keras file"), **config)


def _constant(value: Any) -> Any:
    return lambda shape, dtype: jnp.asarray(value, dtype)


@dataclasses.dataclass(frozen=True)
class KerasModel:
    """A Keras or keras-hub model as an encoder of ours: normalised image (b, H, W, 3) -> map (b, h, w, c).

    model: a built model with channels last; its weights as they are when a run starts are the start values.
    output: key of the map, for a model that returns a dict (a keras-hub backbone's `pyramid_outputs`: "P4").
    pixels: what the model expects: 'normalised' as ours, 'raw' RGB in 0..255, or 'unit' RGB in 0..1.

    Variables that train are weights, other floating ones statistics; integers stay as they are. The states of seed
    generators are drawn anew from the step's key at every call, so there is none in a checkpoint. Name your layers:
    Keras numbers unnamed ones in the order in which a process makes them, and a checkpoint goes by names.
    """

    model: keras.Model
    output: str | None = None
    pixels: Literal["normalised", "raw", "unit"] = "normalised"

    def __post_init__(self):
        if not self.model.built:
            raise BadInput(f"{self.model.name} has no weights yet: call it on an image once, or build it")

    def table(self) -> Table:
        leaves = {}
        for name, variable in self._variables().items():
            if _is_leaf(variable):
                role = "weight" if variable.trainable else "stat"
                leaves[name] = Leaf(tuple(variable.shape), Given(variable.value), role=role)
        return tree.unflatten(leaves)

    def apply(self, params: Params, x: Float[Array, "b H W 3"]) -> tuple[Float[Array, "b h w c"], dict]:
        """The model with training=False."""
        return self._call(params, x, jax.random.key(0), training=False)[0], {}

    def train(self, params: Params, x: Float[Array, "b H W 3"], key: Key) -> tuple[Float[Array, "b h w c"], dict]:
        """The model with training=True; aux["stats"] are the new values of its statistics."""
        out, moved = self._call(params, x, key, training=True)
        names = {id(variable): name for name, variable in self._variables().items()}
        pairs = zip(self.model.non_trainable_variables, moved, strict=True)
        return out, {"stats": tree.unflatten({names[id(v)]: value for v, value in pairs if _is_leaf(v)})}

    def assign(self, params: Params) -> None:
        """Give the Keras model these weights."""
        flat = tree.flatten(params)
        for name, variable in self._variables().items():
            if _is_leaf(variable):
                variable.assign(flat[name])

    def _call(self, params: Params, x: Array, key: Key, *, training: bool) -> tuple[Array, list[Array]]:
        flat, model = tree.flatten(params), self.model
        values = {}
        for i, (name, variable) in enumerate(self._variables().items()):
            if _is_leaf(variable):
                values[id(variable)] = jnp.asarray(flat[name], variable.dtype)
            elif "seed_generator_state" in variable.path:
                data = jax.random.bits(jax.random.fold_in(key, i), variable.shape, jnp.uint32)
                values[id(variable)] = data.astype(variable.dtype)
            else:
                values[id(variable)] = variable.value
        moving = [values[id(v)] for v in model.trainable_variables]
        still = [values[id(v)] for v in model.non_trainable_variables]
        out, still = model.stateless_call(moving, still, self._pixels(x), training=training)
        return out if self.output is None else out[self.output], still

    def _pixels(self, x: Array) -> Array:
        if self.pixels == "normalised":
            return x
        raw = x * jnp.array(STD, x.dtype) + jnp.array(MEAN, x.dtype)
        return raw if self.pixels == "raw" else raw / 255

    def _variables(self) -> dict[str, Any]:
        """Every variable by a unique name: its path, with a number where Keras uses a path twice."""
        found: dict[str, Any] = {}
        for variable in self.model.variables:
            path = variable.path.replace(".", "_").replace("/", ".")
            name, n = path, 1
            while name in found:
                n += 1
                name = f"{path}_{n}"
            found[name] = variable
        return found


def _is_leaf(variable: Any) -> bool:
    return np.issubdtype(keras.backend.standardize_dtype(variable.dtype), np.floating) or variable.dtype == "bfloat16"
