"""Entropy minimisation by hand, with the stand-in of tests/methods/told.py."""

import jax
import numpy as np
import pytest

from sadist_jax import tree
from sadist_jax.methods.adapted import Adapted
from sadist_jax.methods.tent import NORMS, Tent
from sadist_jax.models.sam import Sam
from tests.methods import told
from tests.methods.told import Told, answers, batch, loss

LIVE = answers(0)


def entropy(x):
    p = told.sigmoid(x)
    return (-p * np.log(p) - (1 - p) * np.log(1 - p)).mean()


def test_the_entropy_of_the_weak_views_masks():
    """The unit is the image: one instance of the first, three of the second."""
    rows = batch(instance=np.array([[False, True, False], [True, True, True]]))
    ratios, total, metrics = loss(Tent(Told()), LIVE, {}, rows)
    x = np.asarray(LIVE["told"]["logits"][0], np.float64)
    expected = (entropy(x[0, 1]) + np.mean([entropy(x[1, k]) for k in range(3)])) / 2
    assert float(ratios["entropy"]) == pytest.approx(expected, rel=1e-4)
    assert float(total) == pytest.approx(expected, rel=1e-4)
    assert metrics == {"pseudo_empty": 0, "pseudo_full": 0}
    masks = np.kron(x > 0, np.ones((2, 2))).astype(np.uint8)
    assert float(loss(Tent(Told()), LIVE, {}, rows | {"masks": masks})[2]["true_iou"]) == pytest.approx(1.0)


def test_padding_does_not_count():
    rows = batch(size=np.tile(np.array([told.SIDE, told.SIDE // 2], np.int32), (2, 1)))
    found = jax.grad(lambda live: loss(Tent(Told()), live, {}, rows)[1])(LIVE)["told"]["logits"]
    assert found[0, ..., :4].any()
    assert not found[0, ..., 4:].any()
    assert not found[1].any()  # the strong view


def test_norms_of_the_encoder_are_what_the_paper_trains():
    """Two norms in each of twelve blocks and two in the neck, a scale and a shift each."""
    tables = Tent(Adapted(Sam.vit_b(), lora=None, train=NORMS)).table()
    names = list(tree.flatten(tables["params"]["model"]))
    assert len(names) == (12 * 2 + 2) * 2
    assert all(leaf.shape in ((768,), (256,)) for leaf in tree.flatten(tables["params"]).values())
    assert tables["extra"] == {}
    assert set(tables["frozen"]) == {"model"}
