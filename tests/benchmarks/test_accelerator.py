import functools
import json

import jax
import jax.numpy as jnp
import pytest

from benchmarks import accelerator, attention_kernels, programs

ABOUT = {"jax": "0.11.2", "date": "2026-11-22"}


@pytest.mark.parametrize("name", ["sam_mini_encoder", "efficient_sam_mini_encoder"])
def test_a_row_has_what_its_figures_are_made_of(name):
    case, _ = accelerator.cases(tiny=True)[name]
    row = accelerator.measure(case, 2, rounds=3, seconds=0.01)
    assert row["batch"] == 2
    assert row["spread"][0] <= row["step"] <= row["spread"][1]
    assert row["memory"] > 2 * 256 * 256 * 3  # the images alone
    assert row["flops"] == case(2).flops


def test_a_training_step_can_be_taken_again_and_again():
    """Its state is donated: each step must get the one that the last gave back."""
    step = jax.jit(lambda state, x: (state + x, state.sum()), donate_argnums=0)
    shapes = (jax.ShapeDtypeStruct((8,), jnp.float32),) * 2
    work = programs.Work(step, shapes, lambda: (jnp.zeros(8), jnp.ones(8)), carries=True, flops=8)
    player = accelerator.Player(work)
    assert player.turn(0) > 0
    assert player.turn(0.01) > 0
    assert float(player._first[0]) >= 3


@pytest.mark.parametrize("name", accelerator.cases(tiny=True))
def test_every_program_lowers_with_the_shapes_that_it_is_run_with(name):
    """Without compiling: that takes a minute."""
    case, batches = accelerator.cases(tiny=True)[name]
    work = case(batches[0])
    shapes = jax.tree.map(lambda x: (x.shape, x.dtype), work.shapes)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), work.make()) == shapes
    work.step.lower(*work.shapes)


def test_what_does_not_fit_is_a_row_too():
    def case(batch):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory\nmore")

    row = accelerator.measure(case, 8, rounds=1, seconds=0)
    assert row == {"batch": 8, "failed": "RESOURCE_EXHAUSTED: Out of memory"}


def test_the_table_gives_rates_and_shares_of_the_peak():
    rows = {
        "encoder": [{"batch": 8, "step": 0.02, "spread": [0.02, 0.02], "flops": 10**12, "memory": 2**30} | ABOUT],
        "step": [{"batch": 512, "failed": "out of memory"} | ABOUT],
    }
    page = accelerator.render(rows, "NVIDIA H100 80GB HBM3", peak=1e15)
    assert "| encoder | 8 | 400 | 20 | 400 | 40.0% | 1.00 |" in page  # 8 / 0.02 images, each 1 TFLOP, of 1000 TFLOP/s
    assert "| step | 512 | failed: out of memory |" in page
    assert "jax 0.11.2, 2026-11-22." in page


def test_one_case_more_leaves_the_others_results_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(accelerator, "measure", lambda case, batch, **_: {"batch": batch, "failed": "no"})
    monkeypatch.setattr("sys.argv", ["accelerator", "sami_ti_cached", "--out", str(tmp_path)])
    accelerator.main()
    monkeypatch.setattr("sys.argv", ["accelerator", "sam_vit_b_encoder", "--batches", "4", "--out", str(tmp_path)])
    accelerator.main()
    (kept,) = tmp_path.glob("*.json")
    batches = {name: [row["batch"] for row in rows] for name, rows in json.loads(kept.read_text()).items()}
    assert batches == {"sami_ti_cached": [512, 1024], "sam_vit_b_encoder": [4]}


@pytest.mark.parametrize("relative", [False, True])
def test_attention_ways_are_compared_with_float32_and_named_when_they_cannot(relative):
    found = attention_kernels.compare((2, 4, 2, 8, relative))
    assert set(found) >= {"plain", "blocks", "cudnn"}
    for name in ("plain", "blocks"):
        runs, off = found[name]
        assert runs, off
        assert all(float(value) < 0.05 for value in off.split(", ")), off
    if jax.default_backend() == "cpu":
        assert found["cudnn"][1].startswith("cannot")


def test_a_wrong_way_shows_its_error(monkeypatch):
    def wrong(q, k, v, relative):
        return attention_kernels._ours(q, k, v, None, "plain")

    monkeypatch.setattr(attention_kernels, "ways", lambda: {"wrong": functools.partial(wrong)})
    _, off = attention_kernels.compare((2, 4, 2, 8, True))["wrong"]
    assert float(off.split(", ")[0]) > 0.05
