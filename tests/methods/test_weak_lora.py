"""What WeSAM computes, by hand: the model is a stand-in whose answers are its parameters (tests/methods/told.py)."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sadist_jax import tree
from sadist_jax.errors import BadInput
from sadist_jax.methods.adapted import COARSE_LOGIT, Adapted
from sadist_jax.methods.mask_terms import MaskTerms
from sadist_jax.methods.weak_lora import WeakLora
from sadist_jax.models.sam import Sam
from sadist_jax.nn import table as leaves
from tests.methods import told
from tests.methods.told import Told, answers, batch, loss

LIVE, ANCHOR = answers(0), answers(1)
WEAK, STRONG = 0, 1


def reference(live, anchor, *, released, student=STRONG, regular=WEAK):
    """All terms of the mean over two images of three instances, as the paper means them or as the release has them."""
    live, anchor = ({n: np.asarray(v, np.float64) for n, v in tree["told"].items()} for tree in (live, anchor))
    found = {name: [] for name in ("focal", "dice", "iou", "anchor", "contrast")}
    for b in range(2):
        s, t, r = (live["logits"][view, b] for view in (student, WEAK, regular))
        pseudo, old = t > 0, anchor["logits"][WEAK, b] > 0
        count = len(s)
        found["focal"].append(told.focal(s, pseudo, alpha=count if released else 0.8))
        found["dice"].append(told.dice(s, pseudo, smooth=count if released else 1))
        true = [told.iou(s[k] > (0.5 if released else 0), pseudo[k]) for k in range(count)]
        found["iou"].append(np.mean((live["iou"][student, b] - true) ** 2))
        found["anchor"].append(0.5 * told.dice(s, old, 1) + 0.5 * told.dice(r, old, 1))
        x = told.features(live["features"][regular, b], told.cells(r))
        y = told.features(anchor["features"][WEAK, b], told.cells(anchor["logits"][WEAK, b]))
        scores = np.exp(told.similarity(x, y))
        if released:
            found["contrast"].append(-np.log(np.trace(scores) / scores.sum()))
        else:
            found["contrast"].append(np.mean(-np.log(np.diag(scores) / scores.sum(1))))
    return {name: np.mean(values) for name, values in found.items()}


@pytest.mark.parametrize("released", [False, True])
def test_all_terms_and_their_sum(released):
    method = WeakLora.released(Told()) if released else WeakLora(Told())
    ratios, total, _ = loss(method, LIVE, ANCHOR, batch())
    expected = reference(LIVE, ANCHOR, released=released)
    assert {n: float(v) for n, v in ratios.items()} == {n: pytest.approx(v, rel=1e-4) for n, v in expected.items()}
    weights = {"focal": 20}
    assert float(total) == pytest.approx(sum(weights.get(n, 1) * v for n, v in expected.items()), rel=1e-4)


def test_every_slip_of_the_release_can_be_had_alone():
    masks = {
        "focal": MaskTerms(focal_alpha="instances"),
        "dice": MaskTerms(dice_smooth="instances"),
        "iou": MaskTerms(iou_threshold=0.5),
    }
    plain, slipped = (reference(LIVE, ANCHOR, released=released) for released in (False, True))
    for name, terms in masks.items():
        ratios, *_ = loss(WeakLora(Told(), masks=terms), LIVE, ANCHOR, batch())
        assert abs(plain[name] - slipped[name]) > 1e-3, "or this test could not fail"
        for other in masks:
            wanted = slipped if other == name else plain
            assert float(ratios[other]) == pytest.approx(wanted[other], rel=1e-4)


@pytest.fixture(scope="module")
def slopes():
    """Of every term with respect to the answers."""
    return jax.jit(jax.jacrev(lambda live: loss(WeakLora(Told()), live, ANCHOR, batch())[0]))(LIVE)


@pytest.mark.parametrize(
    ("name", "moves"),
    [
        ("focal", {("logits", STRONG)}),  # pseudo-labels are stopped
        ("dice", {("logits", STRONG)}),
        ("iou", {("iou", STRONG)}),
        ("anchor", {("logits", STRONG), ("logits", WEAK)}),
        ("contrast", {("features", WEAK)}),  # where the masks lie is stopped
    ],
)
def test_what_each_term_moves(slopes, name, moves):
    found = slopes[name]["told"]
    assert {(n, view) for n in found for view in (WEAK, STRONG) if found[n][view].any()} == moves


def test_terms_of_weight_0_are_not_there():
    ratios, *_ = loss(WeakLora(Told(), anchor_weight=0.0), LIVE, ANCHOR, batch())
    assert set(ratios) == {"focal", "dice", "iou", "contrast"}
    alone = WeakLora(Told(), anchor_weight=0.0, contrast_weight=0.0)
    ratios, _, metrics = loss(alone, LIVE, ANCHOR, batch())
    assert set(ratios) == {"focal", "dice", "iou"}
    assert metrics == {}
    assert "anchor" not in alone.table()["frozen"]


def one_instance():
    return batch(instance=np.array([[True, False, False]] * 2))


def test_one_instance_is_told_from_the_background():
    """The release has nothing to learn there, whatever the features."""
    released, *_ = loss(WeakLora.released(Told()), LIVE, ANCHOR, one_instance())
    assert float(released["contrast"]) == pytest.approx(0, abs=1e-6)
    ratios, *_ = loss(WeakLora(Told()), LIVE, ANCHOR, one_instance())
    expected = []
    for b in range(2):
        pairs = []
        for params in (LIVE, ANCHOR):
            inside = told.cells(params["told"]["logits"][WEAK, b, :1])
            masks = np.concatenate([inside, ~inside])
            pairs.append((told.features(params["told"]["features"][WEAK, b], masks), masks.any((1, 2))))
        (x, seen), (y, held) = pairs
        kept = seen & held
        scores = np.exp(told.similarity(x[kept], y[kept]))
        expected.append(np.mean(-np.log(np.diag(scores) / scores.sum(1))))
    assert np.mean(expected) > 0.01
    assert float(ratios["contrast"]) == pytest.approx(np.mean(expected), rel=1e-4)


def test_the_background_can_always_be_an_instance():
    """Two instances have a cell each, the background the other two: with features 1, 2, 3, 3 of three axes, all fit."""
    place = np.kron(np.array([[[1, 0], [0, 0]], [[0, 1], [0, 0]]]), np.ones((told.CELL, told.CELL)))
    shown = {
        "logits": jnp.array(np.broadcast_to(8 * place - 4, (2, 2, 2, 8, 8)), jnp.float32),
        "iou": jnp.zeros((2, 2, 2)),
        "features": jnp.array(np.broadcast_to(np.eye(3)[[[0, 1], [2, 2]]], (2, 2, 2, 2, 3)), jnp.float32),
    }
    found = {}
    for background in ("one", "always", "never"):
        method = WeakLora(Told(), background=background)
        ratios, *_ = loss(method, {"told": shown}, {"told": shown}, batch(instances=2))
        found[background] = float(ratios["contrast"])
    two, three = (np.log(1 + others * np.exp(-1 / 0.3)) for others in (1, 2))
    assert found == {
        "one": pytest.approx(two, rel=1e-4),
        "always": pytest.approx(three, rel=1e-4),
        "never": pytest.approx(two, rel=1e-4),
    }


def test_instances_with_an_empty_mask_take_part_in_the_release_only():
    empty = answers(1)
    empty["told"]["logits"] = empty["told"]["logits"].at[:, :, 1].set(-5)
    released, *_ = loss(WeakLora.released(Told()), LIVE, empty, batch())
    assert float(released["contrast"]) == pytest.approx(reference(LIVE, empty, released=True)["contrast"], rel=1e-4)
    kept = np.array([0, 2])
    rest = [
        {"told": tree["told"] | {n: tree["told"][n][:, :, kept] for n in ("logits", "iou")}} for tree in (LIVE, empty)
    ]
    ratios, *_ = loss(WeakLora(Told()), LIVE, empty, batch())
    assert float(ratios["contrast"]) == pytest.approx(reference(*rest, released=False)["contrast"], rel=1e-4)


@pytest.mark.parametrize("method", [WeakLora(Told()), WeakLora.released(Told())], ids=["paper", "released"])
def test_padding_and_rows_that_are_not_there_change_nothing(method):
    """Not even large numbers in an instance that is not real and beside the content; nor an image of weight 0."""
    rows = batch(
        instance=np.array([[True, True, False], [True, True, True]]),
        weight=np.array([1, 0], np.float32),
        size=np.tile(np.array([told.SIDE // 2, told.SIDE], np.int32), (2, 1)),
    )

    def value(live):
        return loss(method, live, ANCHOR, rows)[1]

    spoilt = dict(LIVE["told"])
    spoilt["logits"] = spoilt["logits"].at[:, 0, 2].set(1e4).at[:, 0, :, told.LOGITS // 2 :].set(1e4)
    spoilt["iou"] = spoilt["iou"].at[:, 0, 2].set(1e4)
    (plain, slope), (other, spoilt_slope) = (jax.value_and_grad(value)(x) for x in (LIVE, {"told": spoilt}))
    if method.background == "one":  # the cells beside the content are then nobody's
        assert float(plain) == pytest.approx(float(other), rel=1e-5)
    terms = [loss(method, x, ANCHOR, rows)[0] for x in (LIVE, {"told": spoilt})]
    for name in ("focal", "dice", "iou", "anchor"):
        assert float(terms[0][name]) == pytest.approx(float(terms[1][name]), rel=1e-5)
    for found in (slope["told"], spoilt_slope["told"]):
        assert not found["logits"][:, 1].any()
        assert not found["features"][:, 1].any()
        assert not found["logits"][:, 0, 2].any()
        assert not found["logits"][:, 0, :, told.LOGITS // 2 :].any()


def test_an_image_without_instances_has_no_weight():
    rows = batch(instance=np.array([[False] * 3, [True] * 3]))
    frozen = {"model": {}, "anchor": ANCHOR}

    @jax.jit
    def weights(live):
        terms, _ = WeakLora(Told()).loss({"model": live}, frozen, {}, rows, jax.random.key(0), jnp.int32(1))
        return [weight for _, weight, _ in terms.values()]

    assert [float(weight) for weight in weights(LIVE)] == [1.0] * 5


def test_metrics_are_of_the_teachers_masks():
    masks = np.kron(np.asarray(LIVE["told"]["logits"][WEAK]) > 0, np.ones((2, 2))).astype(np.uint8)
    masks[0, 0] = 1 - masks[0, 0]  # one of six is all wrong
    masks[1, 1] = 0  # and one is not known
    _, _, metrics = loss(WeakLora(Told()), LIVE, ANCHOR, batch(masks=masks))
    assert float(metrics["true_iou"]) == pytest.approx(4 / 5)
    pairs = [(LIVE["told"]["logits"][WEAK, b, k] > 0, ANCHOR["told"]["logits"][WEAK, b, k] > 0)
             for b in range(2) for k in range(3)]  # fmt: skip
    assert float(metrics["agreement"]) == pytest.approx(np.mean([told.iou(*pair) for pair in pairs]), rel=1e-5)


def test_an_average_teacher_has_no_gradient_and_the_anchor_holds_the_student():
    method, slow = WeakLora(Told(), teacher="average"), answers(2)
    ratios, *_ = loss(method, LIVE, ANCHOR, batch(), {"average": slow})
    mixed = {"told": {n: jnp.stack([slow["told"][n][WEAK], LIVE["told"][n][STRONG]]) for n in LIVE["told"]}}
    expected = reference(mixed, ANCHOR, released=False, regular=STRONG)
    assert {n: float(v) for n, v in ratios.items()} == {n: pytest.approx(v, rel=1e-4) for n, v in expected.items()}
    found = jax.grad(lambda live: loss(method, live, ANCHOR, batch(), {"average": slow})[1])(LIVE)["told"]
    assert not any(found[n][WEAK].any() for n in found)
    assert found["features"][STRONG].any()


def test_the_average_begins_with_the_student():
    method, slow = WeakLora(Told(), teacher="average", decay=0.9), answers(2)
    first = loss(method, LIVE, ANCHOR, batch(), {"average": slow}, step=0)[1]
    assert float(first) == pytest.approx(float(loss(method, LIVE, ANCHOR, batch(), {"average": LIVE})[1]), rel=1e-6)
    begun = method.after_step({"model": LIVE}, {"average": slow}, jnp.int32(0))["average"]
    jax.tree.map(np.testing.assert_array_equal, begun, LIVE)
    later = method.after_step({"model": LIVE}, {"average": slow}, jnp.int32(5))["average"]
    expected = jax.tree.map(lambda old, new: 0.9 * old + 0.1 * new, slow, LIVE)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), later, expected)
    assert WeakLora(Told()).after_step({"model": LIVE}, {}, jnp.int32(5)) == {}


def test_a_kept_embedding_takes_the_anchors_encoder_out():
    kept = {"told": ANCHOR["told"] | {"features": jnp.full_like(ANCHOR["told"]["features"], jnp.nan)}}
    rows = batch() | {"anchor": ANCHOR["told"]["features"][WEAK].astype(jnp.float16)}
    found, expected = loss(WeakLora(Told()), LIVE, kept, rows)[1], loss(WeakLora(Told()), LIVE, ANCHOR, batch())[1]
    assert float(found) == pytest.approx(float(expected), rel=1e-3)


# with a real model -----------------------------------------------------------------------------------------------

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
