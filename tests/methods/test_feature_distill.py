"""Plain feature distillation against NumPy, and what its parts are told: stand-ins for student and teacher."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sadist_jax.methods.feature_distill import FeatureDistill
from sadist_jax.methods.teacher import SamFeatures
from sadist_jax.models.vit_det import VitDet
from sadist_jax.nn.table import Leaf
from sadist_jax.parallel.mesh import MeshSpec
from sadist_jax.parallel.shard import ShardSpec
from sadist_jax.train import plan
from sadist_jax.train.optim import Optim

RNG = np.random.default_rng(0)
TARGETS = RNG.standard_normal((3, 4, 2)).astype(np.float32)
FEATURES = RNG.standard_normal((3, 2, 2, 5)).astype(np.float32)
WEIGHT = np.array([1, 0, 1], np.float32)
BATCH = {"image": np.zeros((3, 4, 4, 3), np.uint8), "index": np.array([5, 6, 9], np.int32), "weight": WEIGHT}
KEY = jax.random.key(3)


@dataclasses.dataclass(frozen=True)
class Student:
    """Gives its parameter."""

    def table(self):
        return {"map": Leaf(FEATURES.shape)}

    def apply(self, params, x):
        return params["map"], {}


@dataclasses.dataclass(frozen=True)
class Counting:
    """In training it counts its calls and remembers the mean of what it saw."""

    def table(self):
        return {
            "scale": Leaf((1,), jax.nn.initializers.ones),
            "calls": Leaf((), role="stat"),
            "mean": Leaf((), role="stat"),
        }

    def train(self, params, x, key):
        stats = {"calls": params["calls"] + 1, "mean": x.mean()}
        return self.apply(params, x)[0], {"stats": stats}

    def apply(self, params, x):
        return x[:, ::2, ::2, :2] * params["scale"], {}


@dataclasses.dataclass(frozen=True)
class Teacher(SamFeatures):
    encoder: VitDet = VitDet(out_dim=2)

    def table(self):
        return {"unused": Leaf((1,))}

    def targets(self, frozen, batch, grid):
        return jnp.broadcast_to(jnp.asarray(TARGETS[:1, : grid**2]), (len(batch["image"]), grid**2, 2))


def test_the_loss_is_the_mean_square_over_cells_channels_and_counted_images():
    method = FeatureDistill(Student(), Teacher(), dim=5, grid=2)
    head = {"weight": RNG.standard_normal((5, 2)).astype(np.float32), "bias": np.array([0.5, -1], np.float32)}
    params = {"student": {"map": FEATURES}, "head": head}
    terms, aux = method.loss(params, {"teacher": {}}, {}, BATCH, KEY, 0)
    guess = FEATURES.reshape(3, 4, 5) @ head["weight"] + head["bias"]
    error = ((guess - TARGETS[:1]) ** 2).mean((1, 2))
    total, weight, coefficient = terms["feature_mse"]
    np.testing.assert_allclose(total, error[0] + error[2], rtol=1e-5)
    assert (weight, coefficient) == (2, 1)
    assert aux["moved"] == {}


def test_the_students_map_is_resized_to_the_grid():
    method = FeatureDistill(Student(), Teacher(), dim=5, grid=1)
    params = {"student": {"map": FEATURES}, "head": {"weight": np.eye(5, 2, dtype=np.float32), "bias": np.zeros(2)}}
    terms, _ = method.loss(params, {"teacher": {}}, {}, BATCH, KEY, 0)
    guess = FEATURES.mean((1, 2))[:, :2]  # bilinear with antialiasing from 2 x 2 to 1 x 1 is the mean
    error = ((guess - TARGETS[0, :1]) ** 2).mean(-1)
    np.testing.assert_allclose(terms["feature_mse"][0], error[0] + error[2], rtol=1e-5)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_statistics_move_with_the_step_and_are_averaged_over_micro_batches(accumulate):
    """Eight devices and two micro-batches: the statistic is that of all rows, as if they had been one batch."""
    method = FeatureDistill(Counting(), Teacher(), dim=2, grid=2)
    job = plan.make(
        method,
        steps=2,
        global_batch=16,
        optim=Optim(lr=0.1, accumulate=accumulate),
        mesh=MeshSpec(),
        shard_spec=ShardSpec(min_size=64),
    )
    image = RNG.integers(0, 256, (16, 4, 4, 3), np.uint8)
    batch = {"image": image, "index": np.arange(16, dtype=np.int32), "weight": np.ones(16, np.float32)}
    state, frozen = job.create({}), job.create_frozen({})
    state, _ = job.step(state, frozen, batch)
    moved = state.extra["student"]
    expected = ((image - np.array([123.675, 116.28, 103.53])) / np.array([58.395, 57.12, 57.375])).mean()
    assert moved["calls"] == 1
    np.testing.assert_allclose(moved["mean"], expected, rtol=1e-4)
    assert job.step(state, frozen, batch)[0].extra["student"]["calls"] == 2
