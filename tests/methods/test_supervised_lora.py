"""The true masks in place of pseudo-labels, by hand, with the stand-in of tests/methods/told.py."""

import jax
import numpy as np
import pytest

from sadist_jax.errors import BadInput
from sadist_jax.methods.mask_terms import MaskTerms
from sadist_jax.methods.supervised_lora import SupervisedLora
from tests.methods import told
from tests.methods.told import Told, answers, batch, loss

LIVE = answers(0)
TRUE = np.random.default_rng(5).integers(0, 2, (2, 3, told.LOGITS, told.LOGITS)).astype(bool)
BIG = np.kron(TRUE, np.ones((2, 2))).astype(np.uint8)


@pytest.mark.parametrize(("view", "number"), [("weak", 0), ("strong", 1)])
def test_terms_are_those_of_the_true_masks(view, number):
    ratios, total, metrics = loss(SupervisedLora(Told(), view=view), LIVE, {}, batch(masks=BIG))
    x, guess = (np.asarray(LIVE["told"][name][number], np.float64) for name in ("logits", "iou"))
    true = np.array([[told.iou(x[b, k] > 0, TRUE[b, k]) for k in range(3)] for b in range(2)])
    expected = {
        "focal": np.mean([told.focal(x[b], TRUE[b], 0.8) for b in range(2)]),
        "dice": np.mean([told.dice(x[b], TRUE[b], 1) for b in range(2)]),
        "iou": np.mean((guess - true) ** 2),
    }
    assert {n: float(v) for n, v in ratios.items()} == {n: pytest.approx(v, rel=1e-4) for n, v in expected.items()}
    assert float(total) == pytest.approx(20 * expected["focal"] + expected["dice"] + expected["iou"], rel=1e-4)
    assert float(metrics["true_iou"]) == pytest.approx(true.mean(), rel=1e-5)


def test_instances_that_vanish_at_the_size_of_the_logits_do_not_count():
    """A pixel of the frame is a quarter of one of the logits'. Of the second image nothing is left."""
    masks = BIG.copy()
    masks[0, 1], masks[1] = 0, 0
    masks[0, 1, 3, 3] = masks[1, :, 3, 3] = 1
    method, rows = SupervisedLora(Told(), masks=MaskTerms(dice_smooth="instances")), batch(masks=masks)
    ratios, *_ = loss(method, LIVE, {}, rows)
    x = np.asarray(LIVE["told"]["logits"][0], np.float64)
    assert float(ratios["dice"]) == pytest.approx(told.dice(x[0, [0, 2]], TRUE[0, [0, 2]], 2), rel=1e-4)
    found = jax.grad(lambda live: loss(method, live, {}, rows)[1])(LIVE)["told"]["logits"][0]
    assert [bool(found[0, k].any()) for k in range(3)] == [True, False, True]
    assert not found[1].any()


def test_without_masks_there_is_nothing_to_learn():
    with pytest.raises(BadInput, match="automatic"):
        loss(SupervisedLora(Told()), LIVE, {}, batch())
