import argparse
import json

import numpy as np
import pytest

from benchmarks import mini_teacher_card as card
from sadist_jax.codecs.prompts import Prediction
from sadist_jax.data.sample import Sample
from sadist_jax.errors import BadInput
from sadist_jax.evals.promptable import PromptedMasks
from tests.data.made import noise, rectangle

HW = (20, 30)
MASKS = np.stack([rectangle(HW, 2, 2, 12, 12), rectangle(HW, 15, 0, 30, 20)])  # 1/6 and 1/2 of the picture


class Toy:
    """Five pictures of noise with the same two objects."""

    def __len__(self):
        return 5

    def __getitem__(self, i):
        return Sample(noise(*HW, i), MASKS, np.zeros(2, bool), np.full(2, -1), f"{i}.jpg")


def everything(sample, evaluation=PromptedMasks()):  # noqa: B008
    """The whole picture for any prompt, so that IoU is the object's share."""
    answer = Prediction(np.ones((1, *HW), bool), np.ones(1), np.ones((1, 4, 6), np.float32))
    return evaluation.update(sample, lambda image: lambda prompts: [answer] * len(prompts))


def options(**changes):
    defaults = {"bsds": "secret", "coco200": None, "checkpoint": ["a=/home/me/x.pth"], "no_checkpoint": False}
    defaults |= {"no_baseline": False, "no_feedback": False, "farthest": True, "multimask": None}
    return argparse.Namespace(**defaults | {"limit": 7, "seed": 0} | changes)


def test_scores_and_differences_of_a_set():
    candidates = {
        "all": everything,
        card.BASELINE: lambda s: card.ask_baseline(PromptedMasks(), s),
        card.FILLED: lambda s: card.ask_filled(PromptedMasks(), s),
    }
    pytest.importorskip("skimage")
    found = card.compare("toy", Toy(), candidates, limit=3)
    assert (found["images"], found["instances"]) == (3, 6)
    for kind in ("box", "random_1", "random_3"):
        numbers = found["scores"]["all"][kind]
        assert {round(n, 4) for n in numbers.values()} == {0.3333}  # every image has the same objects
    assert found["scores"][card.FILLED] == {"box": {k: 1.0 for k in ("miou", "low", "high", "per_image", "oracle")}}
    pairs = {(row["a"], row["b"], row["kind"]): row for row in found["differences"]}
    row = pairs["all", card.FILLED, "box"]
    assert [row[end] for end in ("mean", "low", "high")] == [pytest.approx(-2 / 3, abs=1e-5)] * 3
    assert ("all", card.BASELINE, "random_3") in pairs
    assert ("all", card.FILLED, "random_3") not in pairs

    whole = {"command": "x", "date": "y", "machine": "2 cores", "minutes": 1.0, "sets": {"toy": found}}
    text = card.render(json.loads(json.dumps(whole | {"protocol": {"per_image": 8, "min_share": 0.001}})))
    assert "## toy: 3 images, 6 objects" in text
    assert f"| all − {card.FILLED} | box | -0.667 | -0.667 to -0.667 |" in text
    assert "| 3 clicks | 0.333 |" in text


def test_a_set_without_objects_has_no_scores():
    class Empty(Toy):
        def __getitem__(self, i):
            return super().__getitem__(i)._replace(masks=MASKS[:0], iscrowd=np.zeros(0, bool))

    found = card.compare("toy", Empty(), {"a": everything, "b": everything}, limit=None)
    assert (found["instances"], found["scores"], found["differences"]) == (0, {"a": {}, "b": {}}, [])


def test_the_command_names_no_place():
    text = card.command(options())
    assert text == "python -m benchmarks.mini_teacher_card --bsds DIR --checkpoint a --farthest --limit 7"
    assert card.command(options(multimask=False, limit=None)).endswith("--farthest --no-multimask")


def test_checkpoints_of_one_name_are_refused(monkeypatch):
    monkeypatch.setattr(card, "open_checkpoint", lambda *_: everything)
    assert list(card.open_candidates(options(), PromptedMasks())) == ["a", card.BASELINE, card.FILLED]
    assert list(card.open_candidates(options(checkpoint=["x/a.pt", "y/b.pt.zip"], no_baseline=True), None)) == [
        "a",
        "b",
    ]
    with pytest.raises(BadInput, match="two checkpoints are called a; give names"):
        card.open_candidates(options(checkpoint=["x/a.pt", "y/a.pt"]), PromptedMasks())
