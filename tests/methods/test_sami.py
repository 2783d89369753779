"""SAMI's loss on a grid of 2 x 2 tokens against NumPy; student, decoder and teacher are stand-ins without blocks."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sadist_jax.methods.sami import Sami
from sadist_jax.models.sami_decoder import CrossDecoder
from sadist_jax.models.vit import Vit
from sadist_jax.nn.table import Leaf

RNG = np.random.default_rng(0)
TARGETS = RNG.standard_normal((3, 4, 2)).astype(np.float32)
GUESS = RNG.standard_normal((3, 4, 2)).astype(np.float32)
WEIGHT = np.array([1, 0, 1], np.float32)
BATCH = {"image": np.zeros((3, 4, 4, 3), np.uint8), "index": np.array([5, 6, 9], np.int32), "weight": WEIGHT}
KEY = jax.random.key(3)


@dataclasses.dataclass(frozen=True)
class Student(Vit):
    """Tokens are their own numbers: what the decoder is shown says which tokens were visible."""

    def embed(self, params, x):
        return jnp.broadcast_to(jnp.arange(4.0).reshape(1, 2, 2, 1), (len(x), 2, 2, 1))

    def encode(self, params, x, positions):
        assert positions.shape == x.shape[:2]
        return x, {}


@dataclasses.dataclass(frozen=True)
class Decoder(CrossDecoder):
    """Gives its parameter, whatever it sees."""

    def apply(self, params, visible, order):
        return params["guess"]


@dataclasses.dataclass(frozen=True)
class Given:
    dim: int = 2

    def table(self):
        return {"features": Leaf((3, 4, 2))}

    def targets(self, frozen, image, grid):
        return frozen["features"]


def sami(**options) -> Sami:
    student = Student(dim=1, patch=2, image_size=4)
    return Sami(student, Decoder(1, 2, 2), Given(), **{"mask_ratio": 0.75} | options)


@functools.partial(jax.jit, static_argnums=0)
def computed(method, guess):
    """-> (terms, metrics)."""
    params, frozen = {"student": {}, "decoder": {"guess": guess}}, {"teacher": {"features": TARGETS}}
    terms, aux = method.loss(params, frozen, {}, BATCH, KEY, 0)
    return terms, aux["metrics"]


def total(method, guess=GUESS):
    (term,) = computed(method, guess)[0].values()
    return term[0]


def hidden_tokens(method) -> np.ndarray:
    """(3, 4) bool from the random orders: all but the first `kept` of each."""
    hidden = np.ones((3, 4), bool)
    for row, order in enumerate(np.asarray(method.shuffle(KEY, BATCH["index"]))):
        hidden[row, order[: method.kept]] = False
    return hidden


def cosine(a, b):
    return (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)


@pytest.mark.parametrize("loss_on", ["all", "masked"])
@pytest.mark.parametrize("distance", ["mse", "cosine"])
def test_the_loss_is_the_mean_over_tokens_of_the_images_that_count(loss_on, distance):
    method = sami(loss_on=loss_on, distance=distance)
    hidden = hidden_tokens(method)
    assert hidden.sum(1).tolist() == [3, 3, 3]
    error = np.square(GUESS - TARGETS).mean(-1) if distance == "mse" else 1 - cosine(GUESS, TARGETS)
    counted = hidden if loss_on == "masked" else np.ones_like(hidden)
    expected = sum(error[i][counted[i]].mean() for i in (0, 2))  # image 1 has weight 0
    terms, metrics = computed(method, GUESS)
    assert {name: term[1:] for name, term in terms.items()} == {f"feature_{distance}": (2, 1)}
    assert float(total(method)) == pytest.approx(expected, rel=1e-5)
    similarity, images = metrics["masked_similarity"]
    assert float(similarity) == pytest.approx(
        sum(cosine(GUESS, TARGETS)[i][hidden[i]].mean() for i in (0, 2)), rel=1e-5
    )
    assert float(images) == 2


def test_gradient_reaches_what_counts_and_nothing_else():
    method = sami(loss_on="masked")
    gradient = np.asarray(jax.grad(lambda guess: total(method, guess))(GUESS))
    np.testing.assert_array_equal(gradient.any(-1), hidden_tokens(method) & (WEIGHT > 0)[:, None])
    everywhere = np.asarray(jax.grad(lambda guess: total(sami(), guess))(GUESS))
    np.testing.assert_array_equal(everywhere.any(-1), np.ones((3, 4), bool) & (WEIGHT > 0)[:, None])


def test_the_decoder_is_given_the_visible_tokens_in_the_order_of_their_numbers(monkeypatch):
    seen = {}
    monkeypatch.setattr(Decoder, "apply", lambda self, p, visible, order: seen.update(v=visible, o=order) or p["guess"])
    with jax.disable_jit():
        total(sami(mask_ratio=0.5))
    assert seen["v"].shape == (3, 2, 1)
    np.testing.assert_array_equal(seen["v"][..., 0], seen["o"][:, :2])
    np.testing.assert_array_equal(np.sort(seen["o"], 1), np.tile(np.arange(4), (3, 1)))


def test_a_samples_order_depends_on_its_index_only():
    method = sami()
    together = method.shuffle(KEY, jnp.arange(20))
    np.testing.assert_array_equal(method.shuffle(KEY, jnp.array([7])), together[7:8])
    assert len(np.unique(together, axis=0)) > 5  # of 24


@pytest.mark.parametrize(("side", "ratio", "kept"), [(224, 0.75, 49), (224, 0.5, 98), (224, 0.85, 29)])
def test_visible_tokens(side, ratio, kept):
    """Of 14 x 14 = 196: MAE's int(196 * (1 - ratio))."""
    student = Vit(image_size=side)
    assert Sami(student, CrossDecoder(192, 2, 14), Given(), ratio).kept == kept


@pytest.mark.parametrize("ratio", [0.0, 1.0])
def test_a_ratio_that_hides_nothing_or_all_is_refused(ratio):
    with pytest.raises(ValueError, match=f"mask_ratio {ratio} leaves"):
        sami(mask_ratio=ratio)


def test_parts_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"\(1, 3, 2\) must be \(1, 2, 2\)"):
        dataclasses.replace(sami(), decoder=Decoder(1, 3, 2))
