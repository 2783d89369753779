"""WeSAM with a real, tiny model: what trains, what is decoded at once, what is refused."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sadist_jax import tree
from sadist_jax.errors import BadInput
from sadist_jax.methods.adapted import COARSE_LOGIT, Adapted
from sadist_jax.methods.weak_lora import WeakLora
from sadist_jax.models.sam import Sam
from sadist_jax.nn import table as leaves

TINY, ROWS = Adapted.tiny()


def test_before_the_first_step_the_model_is_the_anchor():
    """B is 0; so the first step moves B alone."""
    method = WeakLora(TINY)
    params, frozen, _ = (leaves.init(part, jax.random.key(0)) for part in method.table().values())

    def total(params):
        terms, aux = method.loss(params, frozen, {}, ROWS, jax.random.key(0), jnp.int32(0))
        return sum(c * t / w for t, w, c in terms.values()), aux["metrics"]["agreement"]

    (_, (agreeing, seen)), found = jax.jit(jax.value_and_grad(total, has_aux=True))(params)
    assert float(agreeing) == float(seen) > 0
    assert {name.rpartition(".")[2] for name, g in tree.flatten(found).items() if g.any()} == {"b"}


def test_chunks_change_nothing():
    """Three instances in all: with two a chunk, the last one has a place left."""
    params = leaves.init(TINY.sam.table(), jax.random.key(0))
    embedding = jax.random.normal(jax.random.key(1), (8, 8, 8, TINY.sam.mask_decoder.dim))

    def computed(chunk):
        def total(params, embedding):
            answers = dataclasses.replace(TINY, chunk=chunk).decode(params, embedding, ROWS)
            return jnp.square(answers.logits).mean() + jnp.square(answers.iou).mean(), answers

        return jax.jit(jax.grad(total, argnums=(0, 1), has_aux=True))(params, embedding)

    (slope, answers), (other_slope, other) = computed(3), computed(2)
    np.testing.assert_allclose(answers.logits, other.logits, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(answers.iou, other.iou, rtol=1e-4, atol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), slope, other_slope)


def test_chunks_save_the_memory_of_the_backward_pass():
    """Of the decoder of ViT-B with 40 instances at 1024 px it is 0.8 GiB with chunks of 8, and 4.3 GiB without."""
    shape = jax.ShapeDtypeStruct
    rows = {"points": shape((1, 16, 2, 2), jnp.float32), "labels": shape((1, 16, 2), jnp.int32)}
    params = leaves.abstract(TINY.sam.table())

    def needed(chunk):
        def total(embedding, params, rows):
            return dataclasses.replace(TINY, chunk=chunk).decode(params, embedding, rows).logits.sum()

        compiled = jax.jit(jax.grad(total)).lower(shape((1, 8, 8, 128), jnp.float32), params, rows).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert needed(2) < needed(16) / 3


def test_the_default_trains_what_wesam_trains():
    """Rank 4 on q and v of twelve blocks of 768 channels: 12 * 2 * (768 * 4 + 4 * 768)."""
    tables = WeakLora(Adapted(Sam.vit_b())).table()
    assert leaves.count(tables["params"]) == 147_456
    assert set(tables["frozen"]) == {"model"}
    assert leaves.count(tables["frozen"]) == leaves.count(Sam.vit_b().table())


def test_leaves_that_train_have_their_old_values_as_anchor():
    decoder = Adapted(Sam.mini(), lora=None, train=(r"mask_decoder\..*",))
    tables = WeakLora(decoder).table()
    names = set(tree.flatten(tables["params"]["model"]))
    assert names == {n for n in tree.flatten(Sam.mini().table()) if n.startswith("mask_decoder.")}
    assert set(tree.flatten(tables["frozen"]["anchor"])) == names
    assert not names & set(tree.flatten(tables["frozen"]["model"]))
    everything = Adapted(Sam.mini(), train=(".*",)).tables()
    assert list(tree.flatten(everything[1])) == ["prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"]


def test_something_must_train():
    with pytest.raises(BadInput, match="nothing of the model would train"):
        Adapted(Sam.mini(), lora=None)
    with pytest.raises(BadInput, match="matches no parameter"):
        Adapted(Sam.mini(), train=("mask_decoderr.*",))
    with pytest.raises(BadInput, match="chunk"):
        Adapted(Sam.mini(), chunk=0)


def test_pictures_of_another_size_are_refused():
    rows = ROWS | {"image": np.zeros((8, 32, 32, 3), np.uint8)}
    with pytest.raises(
        BadInput, match=r"pictures have 32 pixels and the model takes 64; set data\.transform\.size to 64"
    ):
        TINY.answer({}, rows["image"], rows)


def test_coarse_masks_are_prompts(monkeypatch):
    seen = []

    def decode(self, params, embedding, prompts, tokens):
        seen.append((prompts, tokens))
        return jnp.zeros((8, 3, 1, 32, 32)), jnp.zeros((8, 3, 1))

    monkeypatch.setattr(Sam, "decode", decode)
    coarse = np.zeros((8, 3, 64, 64), np.uint8)
    coarse[:, :, :10, :31] = 1  # of the last column half a pixel of the logits, of the others all
    model = dataclasses.replace(TINY, chunk=3)
    model.decode({}, jnp.zeros((8, 8, 8, 4)), ROWS)
    model.decode({}, jnp.zeros((8, 8, 8, 4)), ROWS | {"coarse": coarse})
    (plain, tokens), (masked, _) = seen
    assert plain.masks is None
    assert tokens == (0,)
    expected = np.full((32, 32), -COARSE_LOGIT)
    expected[:5, :16] = COARSE_LOGIT
    np.testing.assert_array_equal(masked.masks, np.broadcast_to(expected, (8, 3, 32, 32)))
