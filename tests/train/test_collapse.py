import json

import numpy as np
import pytest

from sadist_jax.methods.mask_terms import collapsed
from sadist_jax.train.collapse import COLLAPSED, EMPTY, FULL, Collapse
from sadist_jax.train.log import Log, LogSpec


def test_each_episode_is_told_once():
    shares = [0.5, 0.95, 1.0, 0.99, COLLAPSED, 0.2, 0.97]
    collapse = Collapse()
    said = [collapse.sentences({"loss": 1.0, EMPTY: share, FULL: 0.0}) for share in shares]
    assert [len(sentences) for sentences in said] == [0, 1, 0, 0, 0, 0, 1]
    assert "95% of the pseudo-labels are empty" in said[1][0]
    assert ["full" in s for s in collapse.sentences({EMPTY: 1.0, FULL: 1.0})] == [True]


def test_a_method_without_pseudo_labels_is_left_alone():
    assert Collapse().sentences({"loss": 1.0}) == Collapse().sentences({EMPTY: None, FULL: None}) == []


def test_the_log_says_it(tmp_path, capsys):
    log = Log(tmp_path, LogSpec(), start=0, steps=9, batch=4)
    log.train(1, {"loss": 0.5, EMPTY: 0.0, FULL: 1.0})
    log.train(2, {"loss": 0.5, EMPTY: 0.0, FULL: 1.0})
    log.close()
    assert capsys.readouterr().out.count("warning: 100% of the pseudo-labels are full") == 1
    assert json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[0])[FULL] == 1.0


def test_masks_are_counted_where_pixels_count():
    valid = np.zeros((2, 4, 4), bool)
    valid[:, :3] = True
    masks = np.zeros((2, 4, 4, 4), bool)
    masks[0, 0, 3] = True  # only in the padding: empty
    masks[0, 1, :3] = True  # all that counts: full
    masks[0, 2, :3] = True  # full, but no instance
    masks[1, 0, 0, 0] = True  # neither
    weight = np.array([[1, 1, 0, 0], [1, 1, 0, 0]], np.float32)
    found = collapsed(masks, valid, weight)
    assert {name: tuple(map(float, pair)) for name, pair in found.items()} == {EMPTY: (2, 4), FULL: (1, 4)}


@pytest.mark.parametrize("name", [EMPTY, FULL])
def test_the_names_agree(name):
    assert name in collapsed(np.zeros((1, 1, 2, 2), bool), np.ones((1, 2, 2), bool), np.ones((1, 1), np.float32))
