"""The smallest method: a two-layer net learns a frozen teacher of the same kind on points; runs in milliseconds."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from sadist_jax import tree
from sadist_jax.nn.table import Leaf, trunc_normal
from sadist_jax.train.run import Data, Run

WIDTH = 16
QUICKLY = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}  # to compile for one step


def net_table() -> dict:
    return {
        "pos_embed": Leaf((1, 4)),
        "blocks": {
            str(i): {"kernel": Leaf((a, b), trunc_normal, kind="dense"), "bias": Leaf((b,))}
            for i, (a, b) in enumerate([(4, WIDTH), (WIDTH, WIDTH)])
        },
        "head": {"kernel": Leaf((WIDTH, 2), trunc_normal, kind="dense"), "scale": Leaf((1,), jax.nn.initializers.ones)},
    }


def apply(params, x):
    x = x + params["pos_embed"]
    for i in ("0", "1"):
        x = jnp.tanh(x @ params["blocks"][i]["kernel"] + params["blocks"][i]["bias"])
    return x @ params["head"]["kernel"] * params["head"]["scale"]


@dataclasses.dataclass(frozen=True)
class Toy:
    """Loss: squared error over real instances (their number differs between samples), noise per sample, L1 term."""

    noise: float = 0.1
    momentum: float = 0.9
    poison: int = -1  # sample position whose loss is not finite

    @classmethod
    def tiny(cls):
        transform = Points()
        rows = [transform(PointsReader(64)[i], np.random.default_rng(i)) for i in range(8)]
        batch = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
        return cls(), {**batch, "index": np.arange(8), "weight": np.ones(8, np.float32)}

    def table(self):
        return {"params": {"student": net_table()}, "frozen": {"teacher": net_table()}, "extra": {"mean": net_table()}}

    def loss(self, params, frozen, extra, batch, key, step):
        def noise(index):
            return jax.random.normal(jax.random.fold_in(key, index), batch["x"].shape[1:])

        x = batch["x"] + self.noise * jax.vmap(noise)(batch["index"])
        error = jnp.square(apply(params["student"], x) - apply(frozen["teacher"], batch["x"])).sum(-1)  # (B, K)
        real = batch["real"] * batch["weight"][:, None]
        error = jnp.where(batch["index"][:, None] == self.poison, jnp.nan, error)
        pull = jnp.abs(apply(params["student"], x) - apply(extra["mean"], x)).mean((1, 2))
        terms = {
            "error": (jnp.sum(error * real), jnp.sum(real), 1.0),
            "pull": (jnp.sum(pull * batch["weight"]), jnp.sum(batch["weight"]), 0.1),
        }
        return terms, {"metrics": {"x": (jnp.sum(batch["x"]), jnp.float32(batch["x"].size))}}

    def after_step(self, params, extra, step):
        mix = lambda a, b: self.momentum * a + (1 - self.momentum) * b  # noqa: E731
        return {"mean": jax.tree.map(mix, extra["mean"], params["student"])}


@dataclasses.dataclass(frozen=True)
class PointSource:
    """`count` samples."""

    count: int = 64

    def open(self):
        return PointsReader(self.count)


@dataclasses.dataclass(frozen=True)
class PointsReader:
    count: int

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return index

    def name(self, index):
        return str(index)

    def digest(self):
        return f"points {self.count}"


@dataclasses.dataclass(frozen=True)
class Points:
    """Sample -> K points, of which the first few are real."""

    k: int = 3

    def __call__(self, sample, rng):
        x = np.sin(np.arange(self.k * 4) * (sample + 1)).reshape(self.k, 4) + rng.normal(0, 0.1, (self.k, 4))
        return {"x": x.astype(np.float32), "real": (np.arange(self.k) <= sample % self.k).astype(np.float32)}

    def filler(self):
        return {"x": np.zeros((self.k, 4), np.float32), "real": np.zeros(self.k, np.float32)}


def toy_run(out, **changes) -> Run:
    """A run of 12 steps of 8 samples."""
    run = Run("toy", Toy(), Data(PointSource(), Points()), steps=12, global_batch=8, out=str(out))
    return dataclasses.replace(run, **changes)


def leaves_of(state) -> dict[str, np.ndarray]:
    """Everything of a state by name, on the host."""
    paths = jax.tree_util.tree_flatten_with_path(state)[0]
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in paths}


def assert_same_bits(a, b) -> None:
    a, b = leaves_of(a), leaves_of(b)
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def names(table) -> list[str]:
    return list(tree.flatten(table))
