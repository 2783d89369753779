import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sadist_jax
from sadist_jax import tree
from sadist_jax.errors import BadInput
from sadist_jax.models.classifier import Classifier
from sadist_jax.models.vit import Vit
from sadist_jax.nn import table
from sadist_jax.pretrained import load_classifier
from sadist_jax.recognise import recognise
from sadist_jax.train import outcome
from tests.parity import draw

SMALL = Classifier(Vit(dim=64, depth=2, heads=1, patch=8, image_size=32), classes=5)


@pytest.fixture(scope="module")
def params():
    return jax.device_put(table.from_reference(SMALL.table(), draw.state(SMALL.table())))


def shapes(model):
    return {name: leaf.reference_shape for name, leaf in tree.flatten(model.table()).items()}


def test_logits_are_a_linear_layer_on_the_normed_mean_of_the_tokens(params):
    """In float64 NumPy from the encoder's map; 24 x 40 px are 3 x 5 tokens."""
    x = jnp.array(np.random.default_rng(0).standard_normal((3, 24, 40, 3), np.float32))
    tokens = np.asarray(SMALL.vit.apply(params, x)[0], np.float64).reshape(3, 15, 64)
    mean = tokens.mean(1)
    mean -= mean.mean(-1, keepdims=True)
    norm, head = ({k: np.asarray(v, np.float64) for k, v in params[name].items()} for name in ("fc_norm", "head"))
    pooled = mean / np.sqrt(np.square(mean).mean(-1, keepdims=True) + 1e-6) * norm["weight"] + norm["bias"]
    logits, aux = SMALL.apply(params, x)
    np.testing.assert_allclose(aux["pooled"], pooled, atol=1e-4 * np.abs(pooled).max())
    expected = pooled @ head["weight"] + head["bias"]
    np.testing.assert_allclose(logits, expected, atol=1e-4 * np.abs(expected).max())


def test_names_are_those_of_timm():
    """vision_transformer.py with class_token=False, global_pool="avg"; PyTorch's layout."""
    found = shapes(SMALL)
    assert {name.split(".")[0] for name in found} == {"pos_embed", "patch_embed", "blocks", "fc_norm", "head"}
    assert (found["fc_norm.weight"], found["fc_norm.bias"]) == ((64,), (64,))
    assert (found["head.weight"], found["head.bias"]) == ((5, 64), (5,))


def test_all_classes_are_alike_at_the_start():
    start = Classifier(SMALL.vit, 1000).init(jax.random.key(0))
    assert np.std(start["head"]["weight"]) == pytest.approx(2e-5, rel=0.05)
    logits, _ = Classifier(SMALL.vit, 1000).apply(start, jnp.ones((1, 32, 32, 3)))
    assert 0 < np.abs(logits).max() < 1e-2
    encoder = SMALL.vit.init(jax.random.key(0))
    for name, value in tree.flatten(encoder).items():  # the same with and without a head
        np.testing.assert_array_equal(tree.get(start, name), value)


def test_bfloat16_gives_float32_logits(params):
    half = dataclasses.replace(SMALL, vit=dataclasses.replace(SMALL.vit, dtype="bfloat16"))
    x = jnp.array(np.random.default_rng(0).standard_normal((2, 32, 32, 3), np.float32))
    logits, expected = half.apply(params, x)[0], SMALL.apply(params, x)[0]
    assert logits.dtype == jnp.float32
    assert 0 < np.abs(logits - expected).max() / np.std(expected) < 0.2


@pytest.mark.parametrize(
    "model",
    [SMALL, dataclasses.replace(SMALL, vit=Vit(48, 1, 4, 4, 32, dtype="bfloat16", remat=True, drop_path=0.2))],
    ids=["plain", "odd"],
)
def test_what_is_saved_comes_back(tmp_path, model):
    weights = table.from_reference(model.table(), draw.state(model.table()))
    sadist_jax.save(tmp_path / "x.safetensors", model, weights)
    again, found = load_classifier(tmp_path / "x.safetensors")
    assert again == model
    jax.tree.map(np.testing.assert_array_equal, found, weights)


def test_pth_comes_back_by_its_shapes(tmp_path):
    weights = table.from_reference(SMALL.table(), draw.state(SMALL.table()))
    model = dataclasses.replace(SMALL, vit=dataclasses.replace(SMALL.vit, drop_path=0.1))  # no matter of weights
    sadist_jax.save(tmp_path / "x.pth", model, weights)
    again, found = load_classifier(tmp_path / "x.pth")
    assert again == SMALL
    jax.tree.map(np.testing.assert_array_equal, found, weights)


def test_whoever_takes_prompts_refuses_it_and_the_other_way_round(tmp_path):
    weights = table.from_reference(SMALL.table(), draw.state(SMALL.table()))
    sadist_jax.save(tmp_path / "x.safetensors", SMALL, weights)
    with pytest.raises(BadInput, match=r"x.safetensors is of a classifier, which takes no prompts"):
        sadist_jax.load(tmp_path / "x.safetensors")
    with pytest.raises(BadInput, match="sam_mini is of a Sam and no classifier"):
        load_classifier("sam_mini")


@pytest.mark.parametrize("size", ["ti", "s", "b"])
def test_sizes_are_recognised(size):
    model = Classifier(getattr(Vit, size)(), 100)
    assert recognise(shapes(model), "x.pth") == model


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"cls_token": (1, 1, 64)}, "with a class token: python -m conversion"),
        ({"pos_embed": (1, 16, 64)}, "a ViT with 16 positions of 64 channels"),
        ({"pos_embed": (1, 17, 96)}, "a ViT with 17 positions of 96 channels"),
        ({"head.weight": (5,)}, "lacks head.weight"),
    ],
)
def test_other_classifiers_are_refused(changes, why):
    with pytest.raises(BadInput, match=why):
        recognise(shapes(SMALL) | changes, "x.pth")


def test_a_run_says_that_it_trained_a_classifier():
    @dataclasses.dataclass(frozen=True)
    class Method:
        model: Classifier

    assert outcome.description(Method(SMALL))["model"] == "Classifier"
