"""What an adaptation leaves for users: the adapters, or the whole model; the steps themselves are tested elsewhere."""

import jax
import numpy as np
import pytest

import sadist_jax
from sadist_jax import adapters, tree
from sadist_jax.adapt import lora
from sadist_jax.adapt.lora import Lora
from sadist_jax.methods.adapted import Adapted
from sadist_jax.methods.supervised_lora import SupervisedLora
from sadist_jax.methods.tent import NORMS, Tent
from sadist_jax.methods.weak_lora import WeakLora
from sadist_jax.train import begin, outcome
from sadist_jax.train.optim import Optim
from sadist_jax.train.run import Data, Run
from sadist_jax.weights import safetensors
from tests.adapt import tiny

SPEC = Lora(rank=3, alpha=6.0)
BASE = tiny.params(tiny.SAM)


def ended(method, directory, ema=None) -> None:
    """As if the method had been trained: base weights known, what moves drawn."""
    run = Run("tiny", method, Data(None, None), 1, 8, str(directory), optim=Optim(lr=1e-3, ema=ema))
    job = begin.plan_of(run)
    known = {f"{part}.{name}": value for name, value in tree.flatten(BASE).items() for part in ("model", "anchor")}
    state, frozen = job.create(known), job.create_frozen(known)
    state = state.replace(params=jax.tree.map(lambda x: x + drawn(x), state.params))
    directory.mkdir()
    outcome.export(run, job, state, frozen)  # an average, if kept, is still what the weights were before


def drawn(x):
    return 0.1 * np.random.default_rng(0).standard_normal(x.shape).astype(np.float32)


def files(directory):
    return sorted(path.name for path in directory.iterdir())


def trained(directory, name="params.safetensors"):
    """{name in the model: value} of what a run's file has, in PyTorch's layout."""
    return {name.removeprefix("model."): x for name, x in safetensors.read(directory / name)[0].items()}


@pytest.mark.parametrize("method", [WeakLora, SupervisedLora, Tent])
def test_where_adapters_alone_train_they_are_left(tmp_path, method):
    ended(method(Adapted(tiny.SAM, SPEC)), tmp_path / "run")
    assert files(tmp_path / "run") == ["adapter.safetensors", "params.safetensors"]
    spec, found = adapters.load(tmp_path / "run" / "adapter.safetensors", BASE)
    assert spec == SPEC
    expected = trained(tmp_path / "run")
    assert tree.flatten(found).keys() == expected.keys()
    for name, value in tree.flatten(found).items():
        np.testing.assert_array_equal(value, expected[name])
        assert value.shape == () or np.abs(value).max() > 0
    assert {float(x) for name, x in expected.items() if name.endswith(".scale")} == {2.0}


def test_where_other_leaves_train_too_the_whole_model_is_left(tmp_path):
    """With the adapters in its kernels; what does not train is the base's to the bit."""
    head = r"mask_decoder\.iou_prediction_head\..*"
    ended(WeakLora(Adapted(tiny.SAM, SPEC, (head,))), tmp_path / "run")
    assert files(tmp_path / "run") == ["adapted.safetensors", "params.safetensors"]
    model, found = sadist_jax.load(tmp_path / "run" / "adapted.safetensors")
    assert model == tiny.SAM
    moved, base, found = trained(tmp_path / "run"), tree.flatten(BASE), tree.flatten(found)
    assert found.keys() == base.keys()
    for name, value in found.items():
        if name.startswith("mask_decoder.iou_prediction_head."):
            np.testing.assert_array_equal(value.T, moved[name])
            assert not np.array_equal(value, base[name])
        elif not name.endswith("attn.qkv.weight"):
            np.testing.assert_array_equal(value, base[name])
    for block in ("0", "1"):
        qkv = f"image_encoder.blocks.{block}.attn.qkv"
        update = [2.0 * moved[f"{qkv}.lora.{part}.a"] @ moved[f"{qkv}.lora.{part}.b"] for part in "qv"]
        expected = np.concatenate([update[0], np.zeros((32, 32)), update[1]], 1)
        np.testing.assert_allclose(found[f"{qkv}.weight"] - base[f"{qkv}.weight"], expected, atol=1e-6)
        assert np.abs(update).max() > 0.01


def test_a_method_without_adapters_leaves_the_whole_model(tmp_path):
    ended(Tent(Adapted(tiny.SAM, None, NORMS)), tmp_path / "run")
    assert files(tmp_path / "run") == ["adapted.safetensors", "params.safetensors"]
    found, moved = tree.flatten(sadist_jax.load(tmp_path / "run" / "adapted.safetensors")[1]), trained(tmp_path / "run")
    for name, value in tree.flatten(BASE).items():
        np.testing.assert_array_equal(found[name], moved.get(name, value))
        assert np.array_equal(found[name], value) == (name not in moved)


def test_an_average_of_the_weights_is_left_beside_them_and_a_teacher_is_not(tmp_path):
    ended(WeakLora(Adapted(tiny.SAM, SPEC), teacher="average"), tmp_path / "run", ema=0.9)
    assert files(tmp_path / "run") == [
        "adapter.safetensors", "average.safetensors", "average_adapter.safetensors", "params.safetensors",
    ]  # fmt: skip
    _, latest = adapters.load(tmp_path / "run" / "adapter.safetensors", BASE)
    _, slow = adapters.load(tmp_path / "run" / "average_adapter.safetensors", BASE)
    for name, value in tree.flatten(slow).items():
        np.testing.assert_array_equal(value, trained(tmp_path / "run", "average.safetensors")[name])
        assert value.any() != name.endswith(".b")  # as before any step
    assert all(value.any() for value in tree.flatten(latest).values())
    assert lora.names(latest) == lora.names(slow)
