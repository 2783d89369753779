"""configs/_wesam.py: what the ten configs have in common."""

import importlib.util
from pathlib import Path

import pytest

from sadist_jax.nn import table as leaves

FILE = Path(__file__).parents[2] / "configs" / "_wesam.py"


@pytest.fixture(scope="module")
def recipe():
    spec = importlib.util.spec_from_file_location("wesam_recipe", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_runs_follow_the_release(recipe):
    run = recipe.run("x", ("train", "test"), "weak", "box")
    assert (run.optim.lr, run.optim.warmup, run.optim.weight_decay, run.global_batch) == (1e-4, 250, 1e-4, 1)
    assert (run.data.transform.size, run.data.transform.instances) == (1024, 40)
    moving, _ = run.method.model.tables()
    assert leaves.count(moving) == 147_456  # 12 blocks, q and v, (768 x 4 + 4 x 768) each
    assert (run.data.source, run.evals[0].evaluate.source, run.evals[0].every) == ("train", "test", 0)


def test_a_runs_table_has_the_other_runs_of_its_prompt(recipe):
    run = recipe.run("x", ("train", "test"), "tent", "point")
    assert (run.name, run.data.transform.prompt) == ("wesam_x_point_tent", "point")
    evaluate = run.evals[0].evaluate
    assert (evaluate.name, evaluate.evaluation.kinds) == ("TENT", recipe.KINDS)
    assert evaluate.others == (
        ("adapted", "runs/wesam_x_point"),
        ("as released", "runs/wesam_x_point_released"),
        ("Supervised", "runs/wesam_x_point_supervised"),
    )
    assert recipe.run("x", ("train", "test"), "weak", "box").name == "wesam_x"
