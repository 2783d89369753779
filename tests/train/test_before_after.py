"""Before and after an adaptation: the numbers are those of the models, fused or bare; tables; pictures."""

import json

import jax
import numpy as np
import pytest

from sadist_jax import tree
from sadist_jax.adapt import lora
from sadist_jax.codecs.prompts import Prediction
from sadist_jax.data.sample import Sample
from sadist_jax.evals.evaluation import merge
from sadist_jax.evals.promptable import PER_IMAGE, ask_predictor
from sadist_jax.evals.weakly_prompted import WeaklyPrompted
from sadist_jax.methods.adapted import Adapted
from sadist_jax.methods.tent import Tent
from sadist_jax.methods.weak_lora import WeakLora
from sadist_jax.nn import table as leaves
from sadist_jax.predict.predictor import Predictor
from sadist_jax.train import before_after, outcome
from sadist_jax.train.before_after import DIRECT, BeforeAfter
from tests.data.made import noise, rectangle


class Pictures(list):
    """A source, and its reader."""

    def open(self):
        return self


PROTOCOL = WeaklyPrompted(("box", "point"), size=64, logits=32)
MASKS = [rectangle((48, 64), 4, 4, 40, 30), rectangle((48, 64), 20, 20, 60, 44)]
SAMPLES = Pictures(
    Sample(noise(48, 64, i), np.stack(MASKS), np.zeros(2, bool), np.full(2, -1), f"{i}.png") for i in range(2)
)


def drawn(adapted):
    """(params, frozen) of a method with that model, as if it had been trained."""
    model = leaves.init(tree.merge(*adapted.tables()), jax.random.key(0))
    model = tree.map_named(lambda name, x: x + 5 if name.endswith("lora.v.b") else x, model)
    moving, still = tree.partition(model, set(tree.flatten(adapted.tables()[0])))
    return {"model": moving}, {"model": still}


def numbers_of(sam, params, name):
    predict = ask_predictor(Predictor(sam, params), multimask=False)
    numbers = PROTOCOL.finish(merge(PROTOCOL.update(sample, predict) for sample in SAMPLES))
    return {f"{name}/{kind}": pytest.approx(numbers[kind + PER_IMAGE], abs=2e-3) for kind in PROTOCOL.kinds}


def test_numbers_are_of_the_fused_model_and_of_the_bare_one():
    method = Tent(Adapted.tiny()[0])
    params, frozen = drawn(method.model)
    model = tree.merge(params["model"], frozen["model"])
    found = BeforeAfter(SAMPLES, PROTOCOL, "TENT")(method, params, frozen, {})
    assert found.pop("masks").shape[-1] == 3
    after = numbers_of(method.model.sam, lora.fuse(model), "TENT")
    assert found == numbers_of(method.model.sam, lora.split(model)[0], DIRECT) | after
    assert found["TENT/box"] != pytest.approx(found["Direct/box"], abs=2e-3)


def test_the_model_before_is_the_anchor_where_other_leaves_train():
    train = (r"mask_decoder\.iou_prediction_head\..*",)
    adapted, _ = Adapted.tiny(lora=None, train=train)
    params, frozen = drawn(adapted)
    old = jax.tree.map(lambda x: x + 1, params["model"])
    assert list(before_after.predictors_of(adapted, params, frozen, "adapted")) == ["adapted"]
    found = before_after.predictors_of(WeakLora(adapted).model, params, frozen | {"anchor": old}, "adapted")
    assert list(found) == [DIRECT, "adapted"]
    for name, leaf in tree.flatten(old).items():
        np.testing.assert_array_equal(tree.get(found[DIRECT].params, name), leaf)


def test_other_runs_come_into_the_table(tmp_path):
    lines = [
        {"step": 1, "loss": 3.0},
        {"step": 1, "test/Supervised/box": 0.5},
        {"step": 2, "test/Supervised/box": 0.75},
    ]
    lines[2] |= {"test/Direct/box": 0.1, "test/Supervised/point": None}
    metrics = tmp_path / "metrics.jsonl"
    metrics.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 3, "test/Sup')
    others = (("Supervised", str(tmp_path)), ("TENT", str(tmp_path / "not there")))
    method = Tent(Adapted.tiny()[0])
    found = BeforeAfter(Pictures(), PROTOCOL, others=others)(method, *drawn(method.model), {})
    assert found == {"Supervised/box": 0.75}


def test_numbers_of_three_parts_are_a_table_of_the_report():
    last = {
        "loss": 1.5,
        "test/Direct/box": 0.25,
        "test/adapted/box": 0.5,
        "test/adapted/point": None,
        "test/iou": 0.125,
    }
    table, rest = outcome._tables(last)
    assert (table.title, table.header) == ("test", ("", "Direct", "adapted"))
    assert table.rows == [("box", 0.25, 0.5), ("point", "-", "-")]
    assert rest.rows == [("loss", 1.5), ("test/iou", 0.125)]


def test_the_page_shows_what_was_asked_and_answered():
    mask = rectangle((32, 32), 4, 4, 12, 12)
    sample = Sample(noise(32, 32), mask[None], np.zeros(1, bool), np.full(1, -1), "a.png")
    evaluation = WeaklyPrompted(("box",), size=32, logits=16, per_image=1)
    half = rectangle((32, 32), 4, 4, 12, 8)

    def predict(image):
        return lambda prompts: [Prediction(half[None], np.ones(1), np.zeros((1, 16, 16))) for _ in prompts]

    (answer,) = before_after.ask(sample, evaluation, predict)
    assert answer.prompt.box.tolist() == [4, 4, 11, 11]
    assert np.array_equal(answer.target, mask)
    assert np.array_equal(answer.mask, half)
    assert answer.iou == 0.5
