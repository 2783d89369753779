"""What WeSAM computes, by hand: the model is a stand-in whose answers are its parameters (tests/methods/told.py)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sadist_jax.methods.mask_terms import MaskTerms
from sadist_jax.methods.weak_lora import WeakLora
from tests.methods import told
from tests.methods.told import Told, answers, batch, loss

LIVE, ANCHOR = answers(0), answers(1)
WEAK, STRONG = 0, 1
TERMS = ("focal", "dice", "iou", "anchor", "contrast")


def reference(live, anchor, rows=None, *, released, student=STRONG, regular=WEAK):
    """All terms of a batch, as the paper means them or as the release has them, image by image and in float64."""
    live, anchor = ({n: np.asarray(v, np.float64) for n, v in tree["told"].items()} for tree in (live, anchor))
    rows = batch() if rows is None else rows
    found = []
    for b in np.flatnonzero(rows["weight"] * rows["instance"].any(1)):
        real = rows["instance"][b]
        (h, w), (cells_h, cells_w) = (-(-rows["size"][b] // (told.SIDE // side)) for side in (told.LOGITS, told.GRID))
        s, t, r = (live["logits"][view, b, real] for view in (student, WEAK, regular))
        old = anchor["logits"][WEAK, b, real]
        content = np.arange(told.GRID)[:, None] < cells_h, np.arange(told.GRID) < cells_w
        features = [
            (live["features"][regular, b], told.cells(r) & content[0] & content[1]),
            (anchor["features"][WEAK, b], told.cells(old) & content[0] & content[1]),
        ]
        terms = masks_by_hand(s[:, :h, :w], t[:, :h, :w] > 0, live["iou"][student, b, real], released)
        p, q, m = s[:, :h, :w], r[:, :h, :w], old[:, :h, :w] > 0
        terms["anchor"] = 0.5 * told.dice(p, m, 1) + 0.5 * told.dice(q, m, 1)
        terms["contrast"] = pooled(features) if released else by_rows(features, content[0] & content[1])
        found.append((terms, rows["weight"][b]))
    total = sum(weight for _, weight in found)
    return {name: sum(weight * terms[name] for terms, weight in found) / total for name in TERMS}


def masks_by_hand(s, pseudo, guess, released):
    """s, pseudo: (k, h, w) of the content."""
    count = len(s)
    true = [told.iou(s[k] > (0.5 if released else 0), pseudo[k]) for k in range(count)]
    return {
        "focal": told.focal(s, pseudo, alpha=count if released else 0.8),
        "dice": told.dice(s, pseudo, smooth=count if released else 1),
        "iou": np.mean((guess - true) ** 2),
    }


def pooled(features):
    """-log of the share that the pairs have of all; empty masks are zero vectors."""
    scores = np.exp(told.similarity(*(told.features(*one) for one in features)))
    return -np.log(np.trace(scores) / scores.sum()) if scores.size else 0


def by_rows(features, content):
    """Those with a cell in both branches; the background, if there is one such and both have a cell of it."""
    kept = np.logical_and(*(masks.any((1, 2)) for _, masks in features))
    if kept.sum() == 1:
        rest = [~masks.any(0) & content for _, masks in features]
        features = [(x, np.concatenate([masks, r[None]])) for (x, masks), r in zip(features, rest, strict=True)]
        kept = np.append(kept, all(r.any() for r in rest))
    if not kept.any():
        return 0
    scores = np.exp(told.similarity(*(told.features(x, masks[kept]) for x, masks in features)))
    return np.mean(-np.log(np.diag(scores) / scores.sum(1)))


RAGGED = {
    "rows that are not there": {"instance": np.array([[True, False, True], [False, True, False]])},
    "one and three": {"instance": np.array([[False, True, False], [True] * 3])},
    "one image of weight 0": {"weight": np.array([1, 0], np.float32)},
    "one image without any": {"instance": np.array([[True] * 3, [False] * 3])},
    "padding": {"size": np.array([[told.SIDE, told.SIDE // 2], [6, told.SIDE]], np.int32)},
}
RAGGED["all at once"] = RAGGED["rows that are not there"] | RAGGED["padding"] | {"weight": np.array([1, 3], np.float32)}


@pytest.mark.parametrize("released", [False, True])
@pytest.mark.parametrize("rows", RAGGED.values(), ids=RAGGED.keys())
def test_ragged_batches(rows, released):
    method = WeakLora.released(Told()) if released else WeakLora(Told())
    ratios, *_ = loss(method, LIVE, ANCHOR, batch(**rows))
    expected = reference(LIVE, ANCHOR, batch(**rows), released=released)
    found = {name: float(value) for name, value in ratios.items()}
    assert found == {name: pytest.approx(value, rel=1e-4, abs=1e-6) for name, value in expected.items()}


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
    assert set(metrics) == {"pseudo_empty", "pseudo_full"}
    assert "anchor" not in alone.table()["frozen"]


def test_one_instance_is_told_from_the_background():
    """The release has nothing to learn there, whatever the features."""
    rows = batch(instance=np.array([[True, False, False]] * 2))
    released, *_ = loss(WeakLora.released(Told()), LIVE, ANCHOR, rows)
    assert float(released["contrast"]) == pytest.approx(0, abs=1e-6)
    ratios, *_ = loss(WeakLora(Told()), LIVE, ANCHOR, rows)
    expected = reference(LIVE, ANCHOR, rows, released=False)["contrast"]
    assert expected > 0.01
    assert float(ratios["contrast"]) == pytest.approx(expected, rel=1e-4)


def test_so_is_one_beside_an_empty_mask():
    """Of two instances the live branch finds one: without the background there would be nothing to tell it from."""
    live = answers(0)
    live["told"]["logits"] = live["told"]["logits"].at[WEAK, :, 1].set(-5)
    rows = batch(instance=np.array([[True, True, False]] * 2))
    ratios, *_ = loss(WeakLora(Told()), live, ANCHOR, rows)
    expected = reference(live, ANCHOR, rows, released=False)["contrast"]
    assert expected > 0.01
    assert float(ratios["contrast"]) == pytest.approx(expected, rel=1e-4)


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
    assert float(ratios["contrast"]) == pytest.approx(
        reference(*rest, batch(instances=2), released=False)["contrast"], rel=1e-4
    )


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


def test_masks_that_are_all_or_nothing_are_counted():
    """Of the teacher's view and of instances that are there: one of five is empty, two are full."""
    logits = np.array(LIVE["told"]["logits"])
    logits[WEAK, 0, 0], logits[WEAK, 0, 1], logits[WEAK, 1, 2] = -1, 1, 1
    logits[WEAK, 1, 0] = -1  # no instance
    rows = batch(instance=np.array([[True] * 3, [False, True, True]]))
    live = {"told": {**LIVE["told"], "logits": jnp.asarray(logits)}}
    _, _, metrics = loss(WeakLora(Told()), live, ANCHOR, rows)
    assert (float(metrics["pseudo_empty"]), float(metrics["pseudo_full"])) == pytest.approx((1 / 5, 2 / 5))


def test_an_average_teacher_has_no_gradient_and_the_anchor_holds_the_student():
    method, slow = WeakLora(Told(), teacher="average"), answers(2)
    ratios, *_ = loss(method, LIVE, ANCHOR, batch(), begun(slow))
    mixed = {"told": {n: jnp.stack([slow["told"][n][WEAK], LIVE["told"][n][STRONG]]) for n in LIVE["told"]}}
    expected = reference(mixed, ANCHOR, released=False, regular=STRONG)
    assert {n: float(v) for n, v in ratios.items()} == {n: pytest.approx(v, rel=1e-4) for n, v in expected.items()}
    found = jax.grad(lambda live: loss(method, live, ANCHOR, batch(), begun(slow))[1])(LIVE)["told"]
    assert not any(found[n][WEAK].any() for n in found)
    assert found["features"][STRONG].any()


def begun(slow, yet=1.0):
    return {"average": slow, "begun": jnp.float32(yet)}


def test_the_average_begins_with_the_student():
    """At the first step that is taken: one that is skipped leaves `begun` as it was."""
    method, slow = WeakLora(Told(), teacher="average", decay=0.9), answers(2)
    first = loss(method, LIVE, ANCHOR, batch(), begun(slow, 0.0))[1]
    assert float(first) == pytest.approx(float(loss(method, LIVE, ANCHOR, batch(), begun(LIVE))[1]), rel=1e-6)
    after = method.after_step({"model": LIVE}, begun(slow, 0.0), jnp.int32(3))
    jax.tree.map(np.testing.assert_array_equal, after, begun(LIVE))
    later = method.after_step({"model": LIVE}, begun(slow), jnp.int32(5))["average"]
    expected = jax.tree.map(lambda old, new: 0.9 * old + 0.1 * new, slow, LIVE)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), later, expected)
    assert WeakLora(Told()).after_step({"model": LIVE}, {}, jnp.int32(5)) == {}


def test_a_kept_embedding_takes_the_anchors_encoder_out():
    kept = {"told": ANCHOR["told"] | {"features": jnp.full_like(ANCHOR["told"]["features"], jnp.nan)}}
    rows = batch() | {"anchor": ANCHOR["told"]["features"][WEAK].astype(jnp.float16)}
    found, expected = loss(WeakLora(Told()), LIVE, kept, rows)[1], loss(WeakLora(Told()), LIVE, ANCHOR, batch())[1]
    assert float(found) == pytest.approx(float(expected), rel=1e-3)
