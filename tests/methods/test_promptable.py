"""What promptable training computes, by hand: the model is a stand-in whose four masks and IoUs are its parameters."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sadist_jax.errors import BadInput
from sadist_jax.methods.clicks import Clicks
from sadist_jax.methods.promptable import Promptable
from sadist_jax.models.efficient_sam import EfficientSam
from sadist_jax.models.sam import Sam

SIDE, LOGITS = 16, 8  # frame and masks; a 2 x 2 embedding, so DECODED = 4
TARGET = np.zeros((LOGITS, LOGITS), bool)
TARGET[2:6, 2:6] = True
BEST = np.where(TARGET, 3.0, -3.0).astype(np.float32)  # IoU 1
WORSE = np.where(np.roll(TARGET, 1, 1), 3.0, -3.0).astype(np.float32)  # IoU 12 / 20
WORST = -BEST
CORNER = np.kron(np.array([[1, 0], [0, 0]]), np.ones((8, 8))).astype(np.uint8)  # one of the four tokens
KEY = jax.random.key(0)


@dataclasses.dataclass(frozen=True)
class Given(Sam):
    """The parameters `masks` (4, 8, 8) and `iou` (4,) answer every prompt; `features` is the embedding."""

    def encode(self, params, image, size=None):
        return params["features"]

    def decode(self, params, embedding, prompts, tokens=(0, 1, 2, 3)):
        rows = prompts.labels.shape[:2]
        return jnp.broadcast_to(params["masks"], (*rows, 4, LOGITS, LOGITS)), jnp.broadcast_to(
            params["iou"], (*rows, 4)
        )


def method(**options) -> Promptable:
    return Promptable(Given(), **{"clicks": Clicks(1, 0, box_probability=0.0), "remat": False} | options)


def parameters(masks=(BEST, WORSE, BEST, WORST), iou=(0.5, 0.9, 0.2, 0.1)):
    return {"masks": jnp.array(masks), "iou": jnp.array(iou), "features": jnp.ones((2, 2, 2, 3))}


def batch(**changes):
    big = np.kron(TARGET, np.ones((2, 2))).astype(np.uint8)
    rows = {
        "image": np.zeros((2, SIDE, SIDE, 3), np.uint8),
        "size": np.full((2, 2), SIDE, np.int32),
        "masks": np.tile(big, (2, 2, 1, 1)),
        "instance": np.ones((2, 2), bool),
        "index": np.arange(2, dtype=np.int32),
        "weight": np.ones(2, np.float32),
    }
    return rows | changes


def loss(what, params, rows=None):
    """-> ({name: ratio}, {name: weight}, training loss, metrics as ratios)."""
    return computed(what, params, batch() if rows is None else rows)


@functools.partial(jax.jit, static_argnums=0)
def computed(what, params, rows):
    terms, aux = what.loss(params, {}, {}, rows, KEY, 0)
    ratios = {name: total / weight for name, (total, weight, _) in terms.items()}
    total = sum(c * ratios[name] for name, (_, _, c) in terms.items())
    return ratios, {n: w for n, (_, w, _) in terms.items()}, total, {n: t / w for n, (t, w) in aux["metrics"].items()}


def focal(x, t, alpha=0.25, gamma=2.0):
    p = 1 / (1 + np.exp(-x))
    right = np.where(t, p, 1 - p)
    return (np.where(t, alpha, 1 - alpha) * (1 - right) ** gamma * -np.log(right)).mean()


def dice(x, t):
    p = 1 / (1 + np.exp(-x))
    return 1 - (2 * (p * t).sum() + 1) / (p.sum() + t.sum() + 1)


def test_one_click_trains_the_best_of_three_masks_and_all_three_ious():
    ratios, weights, total, metrics = loss(method(), parameters())
    assert {float(w) for w in weights.values()} == {4.0}  # two images of two instances
    assert float(ratios["focal"]) == pytest.approx(focal(BEST, TARGET), rel=1e-5)
    assert float(ratios["dice"]) == pytest.approx(dice(BEST, TARGET), rel=1e-5)
    iou = np.mean([(0.9 - 12 / 20) ** 2, (0.2 - 1) ** 2, (0.1 - 0) ** 2])  # true IoUs of tokens 1, 2 and 3
    assert float(ratios["iou"]) == pytest.approx(iou, rel=1e-5)
    assert float(total) == pytest.approx(20 * focal(BEST, TARGET) + dice(BEST, TARGET) + iou, rel=1e-5)
    assert float(metrics["iou_first"]) == pytest.approx(12 / 20)  # token 1 is the most confident one


def test_only_the_best_masks_iou_where_asked_for():
    ratios, *_ = loss(method(iou_of="best"), parameters())
    assert float(ratios["iou"]) == pytest.approx((0.2 - 1) ** 2, rel=1e-5)


@pytest.mark.parametrize("best", [1, 2, 3])
def test_gradient_reaches_the_best_mask_only(best):
    masks = [BEST, WORST, WORST, WORST]
    masks[best] = WORSE
    gradient = jax.grad(lambda p: loss(method(), p)[2])(parameters(masks))
    assert [bool(g.any()) for g in gradient["masks"]] == [i == best for i in range(4)]
    assert [bool(g) for g in gradient["iou"]] == [False, True, True, True]


@pytest.mark.parametrize(
    ("options", "tokens"),
    [
        ({"clicks": Clicks(1, 0, box_probability=1.0)}, {0}),  # a box is not ambiguous ...
        ({"clicks": Clicks(1, 0, box_probability=1.0), "box_multimask": True}, {2}),  # ... unless one says so
        ({"clicks": Clicks(2, 0, box_probability=0.0)}, {0, 2}),  # two clicks are not
        ({"clicks": Clicks(2, 0, box_probability=0.0), "multimask": "always"}, {2}),
        ({"clicks": Clicks(2, 1, box_probability=1.0)}, {0}),
    ],
)
def test_which_tokens_a_prompt_trains(options, tokens):
    gradient = jax.grad(lambda p: loss(method(**options), p)[2])(parameters((WORSE, WORST, BEST, WORST)))
    assert {i for i, g in enumerate(gradient["masks"]) if g.any()} == tokens


def test_losses_are_averaged_over_rounds():
    ratios, _, _, metrics = loss(
        method(clicks=Clicks(3, 0, box_probability=0.0)), parameters((WORST, WORSE, BEST, WORST))
    )
    expected = (dice(BEST, TARGET) + 2 * dice(WORST, TARGET)) / 3
    assert float(ratios["dice"]) == pytest.approx(expected, rel=1e-5)
    assert (float(metrics["iou_first"]), float(metrics["iou_last"])) == (pytest.approx(0.6), 0.0)


@pytest.mark.parametrize("remat", [False, True])
def test_padded_instances_and_rows_of_weight_0_change_nothing(remat):
    """Whatever they hold: here another object, which would cost much."""
    what = method(clicks=Clicks(2, 0), remat=remat, pooled_weight=1.0)
    real = np.array([[True, False], [True, True]])
    weight = np.array([1, 0], np.float32)
    masks = batch()["masks"].copy()
    masks[0, 0] = CORNER  # a whole token, for the pooled loss
    other = masks.copy()
    other[0, 1], other[1] = 1 - other[0, 1], 1 - other[1]
    params = parameters() | {"features": jnp.array(np.random.default_rng(0).standard_normal((2, 2, 2, 3)), jnp.float32)}

    def value(params, masks):
        _, weights, total, _ = loss(what, params, batch(instance=real, weight=weight, masks=masks))
        return total, weights["focal"]

    results = [jax.value_and_grad(value, has_aux=True)(params, masks) for masks in (masks, other)]
    (_, counted), gradient = results[0]
    assert float(counted) == 1
    assert gradient["features"][0].any()
    assert not gradient["features"][1].any()
    jax.tree.map(np.testing.assert_array_equal, *results)


def test_instances_too_small_for_a_target_do_not_count():
    masks = batch()["masks"].copy()
    masks[0, 1] = 0
    masks[0, 1, 4, 4] = 1  # a quarter of a logit's area
    _, weights, *_ = loss(method(), parameters(), batch(masks=masks))
    assert float(weights["dice"]) == 3


def test_padding_is_left_out():
    """The right half is padding: what the masks say there changes neither loss nor true IoU."""
    rows = batch(size=np.tile(np.array([SIDE, SIDE // 2], np.int32), (2, 1)))
    elsewhere = np.arange(LOGITS) >= LOGITS // 2
    changed = tuple(np.where(elsewhere, 9.0, x).astype(np.float32) for x in (BEST, WORSE, BEST, WORST))
    before, after = (loss(method(), parameters(m), rows) for m in ((BEST, WORSE, BEST, WORST), changed))
    assert float(before[2]) == pytest.approx(float(after[2]), rel=1e-6)
    left, target = BEST[:, :4], TARGET[:, :4]
    assert float(before[0]["focal"]) == pytest.approx(focal(left, target), rel=1e-5)


def test_the_starting_box_is_that_of_the_full_size_mask(monkeypatch):
    """An odd edge, which the masks' resolution cannot show: columns 5 to 10 and rows 4 to 11 of the frame."""
    masks, seen = np.zeros((2, 2, SIDE, SIDE), np.uint8), []
    masks[..., 4:12, 5:11] = 1
    decode = Given.decode

    def spy(self, params, embedding, prompts, tokens=(0, 1, 2, 3)):
        seen.append(prompts.points)
        return decode(self, params, embedding, prompts, tokens)

    monkeypatch.setattr(Given, "decode", spy)
    with jax.disable_jit():
        method(clicks=Clicks(1, 0, box_probability=1.0, box_noise=0.0)).loss(
            parameters(), {}, {}, batch(masks=masks), KEY, 0
        )
    assert np.unique(np.asarray(seen[0][:, :, :2]).reshape(4, 4), axis=0).tolist() == [[5, 4, 10, 11]]


def pooled(features, masks, size=(SIDE, SIDE)):
    """Of one image, through jit: eager operations would each be compiled."""
    size = jnp.array([size], jnp.int32)
    return jax.jit(method()._pooled)(jnp.array(features, jnp.float32)[None], jnp.array(masks)[None], size)


def test_features_that_separate_an_instance_give_its_mask():
    """Cosine 1 inside and 0 outside: logits 5 and -5 on the four tokens."""
    found, iou, seen = pooled([[[2, 0], [0, 1]], [[0, 3], [0, 1]]], CORNER[None])
    logits, target = np.array([[5.0, -5.0], [-5.0, -5.0]]), np.array([[True, False], [False, False]])
    expected = np.log1p(np.exp(-5)) + dice(logits, target)
    assert float(found[0, 0]) == pytest.approx(expected, rel=1e-3)
    assert (float(iou[0, 0]), bool(seen[0, 0])) == (1.0, True)


def test_features_that_are_alike_everywhere_give_the_whole_frame():
    found, iou, _ = pooled(np.ones((2, 2, 3)), CORNER[None])
    logits, target = np.full((2, 2), 5.0), np.array([[True, False], [False, False]])
    entropy = (np.log1p(np.exp(-5)) + 3 * np.log1p(np.exp(5))) / 4
    assert float(found[0, 0]) == pytest.approx(entropy + dice(logits, target), rel=1e-3)
    assert float(iou[0, 0]) == 0.25


def test_tokens_of_padding_and_instances_below_half_a_token():
    found, iou, _ = pooled(np.ones((2, 2, 3)), CORNER[None], (8, 8))  # only the first token is content
    assert float(iou[0, 0]) == 1.0
    assert float(found[0, 0]) == pytest.approx(
        np.log1p(np.exp(-5)) + dice(np.full((1, 1), 5.0), np.ones((1, 1))), rel=1e-3
    )
    small = np.zeros((SIDE, SIDE), np.uint8)
    small[:5, :6] = 1  # 30 of the 64 pixels of a token
    assert pooled(np.ones((2, 2, 3)), np.stack([CORNER, small]))[2].tolist() == [[True, False]]


def test_the_pooled_loss_is_a_term_of_instances_that_have_a_token():
    masks = batch()["masks"].copy()
    masks[:, 0] = CORNER
    params = parameters() | {"features": jnp.array(np.tile([[[2.0, 0], [0, 1]], [[0, 3], [0, 1]]], (2, 1, 1, 1)))}
    ratios, weights, _, metrics = loss(method(pooled_weight=0.5), params, batch(masks=masks))
    # the centred square of `batch` covers a quarter of each token
    assert (float(weights["pooled"]), float(weights["dice"])) == (2, 4)
    assert float(metrics["iou_pooled"]) == 1.0
    assert float(ratios["pooled"]) == pytest.approx(
        float(pooled(params["features"][0], CORNER[None])[0][0, 0]), rel=1e-5
    )
    assert "pooled" not in loss(method(), params)[0]


@pytest.mark.parametrize(
    ("clicks", "fits"),
    [
        (Clicks(5, 0), True),  # a box and 4 clicks
        (Clicks(6, 0), False),
        (Clicks(6, 1), True),
        (Clicks(6, 0, box_probability=0.0), True),  # 6 clicks
        (Clicks(7, 0, box_probability=0.0), False),
        (Clicks(), False),
    ],
)
def test_clicks_must_fit_the_released_six_slots(clicks, fits):
    if fits:
        Promptable(EfficientSam.mini(), clicks)
    else:
        with pytest.raises(BadInput, match=f"come to {clicks.most_points} points, but the model reads 6"):
            Promptable(EfficientSam.mini(), clicks)
    Promptable(dataclasses.replace(EfficientSam.mini(), slots=0), clicks)
    Promptable(Sam.mini(), clicks)
