"""Every example learns: its loss falls by 30 % at least, and below that of the best constant."""

import dataclasses
import importlib.util
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sadist_jax import losses, tree
from sadist_jax.train import loop
from sadist_jax.train.log import METRICS, LogSpec
from sadist_jax.train.run import Run, stream
from sadist_jax.train.start import overlay

pytest.importorskip("skimage")
pytest.importorskip("sklearn")
EXAMPLES = Path(__file__).parents[2] / "examples"
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:keras")


def needs(name: str) -> list[pytest.MarkDecorator]:
    """keras-hub is in the environment of `make parity` only."""
    missing = pytest.mark.skipif(importlib.util.find_spec(name) is None, reason=f"needs {name}: make parity")
    return [missing, pytest.mark.parity] if name == "keras_hub" else [missing]


def example(name: str):
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["nnx_vit_sami", pytest.param("keras_hub_student", marks=needs("keras_hub"))])
def test_a_student_of_another_framework_learns_the_teachers_features(name, tmp_path):
    run = dataclasses.replace(example(name).config(), out=str(tmp_path / "run"), log=LogSpec(every=5))
    loop.train(run)
    found = [json.loads(line) for line in (tmp_path / "run" / METRICS).read_text().splitlines()]
    errors = [line["feature_mse"] for line in found if "feature_mse" in line]
    assert errors[-1] < 0.7 * errors[0]
    assert errors[-1] < mean_features_error(run)


def mean_features_error(run: Run) -> float:
    """Mean squared error of the mean feature, the best constant, over eight batches of the run."""
    teacher, table = run.method.teacher, {"teacher": run.method.teacher.table()}
    params = tree.unflatten(overlay(run.starts, table, tree.flatten(table).keys()))["teacher"]
    targets = jax.jit(lambda params, batch: teacher.targets(params, batch, 16))
    _, batches = stream(run)
    rows = batches(0)
    features = np.concatenate([targets(params, {"image": next(rows)["image"]}) for _ in range(8)])
    rows.close()
    return float(features.reshape(-1, features.shape[-1]).var(0).mean())


@pytest.mark.parametrize(
    "name",
    [pytest.param("keras_fit", marks=needs("keras")), pytest.param("keras_hub_segmenter", marks=needs("keras_hub"))],
)
def test_our_losses_train_a_model_of_keras(name):
    module = example(name)
    history, target = module.fit()
    assert history[-1] < 0.7 * history[0]
    assert history[-1] < best_constant_logit(target)


def best_constant_logit(target: np.ndarray) -> float:
    """Dice + focal of one logit for all pixels, the best of many."""

    def loss(logit: float) -> float:
        logits = jnp.full(target.shape, logit, jnp.float32)
        return float((losses.dice(logits, target) + losses.focal_mask(logits, target)).mean())

    return min(loss(logit) for logit in np.linspace(-8, 8, 33))
