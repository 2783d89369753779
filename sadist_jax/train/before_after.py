"""An adapted model beside the model that it was: numbers for a run's report, and its masks as pictures."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sadist_jax import tree
from sadist_jax.codecs.prompts import Prediction, Prompt
from sadist_jax.data.sample import Sample
from sadist_jax.evals.evaluation import evenly_spaced, merge
from sadist_jax.evals.promptable import PER_IMAGE, Predict, PromptedMasks, Reply, ask_predictor
from sadist_jax.evals.weakly_prompted import WeaklyPrompted
from sadist_jax.methods.adapted import Adapted
from sadist_jax.predict.overlay import draw_prompt, overlay, panel, write_line
from sadist_jax.predict.predictor import Predictor
from sadist_jax.train import pulse
from sadist_jax.train.log import METRICS
from sadist_jax.typing import Params

DIRECT = "Direct"  # the model without any adaptation, as the paper calls it


@dataclasses.dataclass(frozen=True)
class BeforeAfter:
    """`Evaluation.evaluate` of a method with an `Adapted`: the paper's numbers, and pictures of the masks.

    Attributes:
      source: images with masks, none of which trains.
      evaluation: what is asked; each kind of prompt has a number, the mean over images of the mean IoU of their objects
        (PER_IMAGE).
      name: of the model that trains, such as "adapted", or "Supervised" where it sees true masks.
      others: directories of other runs with the same evaluation by their `name`, whose last numbers are taken over
        where they are there.
      pictures: so many images, evenly spaced, show one object each with the first kind of prompt.

    Returns {"<model>/<kind>": number}, of which the report makes a table, and {"masks": picture}. DIRECT has numbers
    where a run still has the leaves that the model started with: where adapters alone train, and in a `WeakLora`.
    """

    source: Any
    evaluation: WeaklyPrompted
    name: str = "adapted"
    others: tuple[tuple[str, str], ...] = ()
    pictures: int = 4

    def __call__(self, method: Any, params: Params, frozen: Params, extra: Params) -> dict[str, Any]:
        reader, predictors = self.source.open(), predictors_of(method.model, params, frozen, self.name)
        found: dict[str, Any] = {}
        for name, predictor in predictors.items():
            predict = ask_predictor(predictor, multimask=False)
            records = merge(self._records(reader[i], predict) for i in range(len(reader)))
            numbers = self.evaluation.finish(records)
            found |= {f"{name}/{kind.removesuffix(PER_IMAGE)}": numbers[kind] for kind in numbers if PER_IMAGE in kind}
        for name, directory in self.others:
            found |= last_numbers(Path(directory) / METRICS, f"{name}/")
        samples = (reader[i] for i in evenly_spaced(len(reader), self.pictures))
        if self.pictures and (rows := draw(samples, self.evaluation, predictors)):
            found["masks"] = panel(rows, ("truth", *predictors))
        return found

    def _records(self, sample: Sample, predict: Predict) -> Any:
        pulse.beat()
        return self.evaluation.update(sample, predict)


def predictors_of(model: Adapted, params: Params, frozen: Params, name: str) -> dict[str, Predictor]:
    """The model before, where it is still there, and, called `name`, as it is now."""
    own = set(tree.flatten(model.sam.table()))
    before, _ = tree.partition(tree.merge(frozen["model"], frozen.get("anchor", {})), own)
    found = {DIRECT: Predictor(model.sam, before)} if set(tree.flatten(before)) == own else {}
    return found | {name: Predictor(model.sam, tree.merge(params["model"], frozen["model"]))}


def last_numbers(metrics: Path, prefix: str) -> dict[str, float]:
    """{name: value} of what a metrics.jsonl said last of names "<eval>/<prefix>..."; {} where there is none."""
    found: dict[str, float] = {}
    for line in metrics.read_text(encoding="utf-8").splitlines(keepends=True) if metrics.exists() else ():
        if line.endswith("\n"):  # a kill may leave half a line
            named = {name.partition("/")[2]: value for name, value in json.loads(line).items()}
            found |= {name: value for name, value in named.items() if name.startswith(prefix) and value is not None}
    return found


def draw(samples: Any, evaluation: WeaklyPrompted, predictors: Mapping[str, Predictor]) -> list[list[np.ndarray]]:
    """A row for each image with an object: one of them, drawn at random, with its prompt, then every model's mask."""
    one = dataclasses.replace(evaluation, kinds=evaluation.kinds[:1], prompts=None, per_image=1)
    rows = []
    for sample in samples:
        answers = [ask(sample, one, ask_predictor(predictor, multimask=False)) for predictor in predictors.values()]
        if answers[0]:
            prompt, truth = answers[0][0].prompt, overlay(sample.image, answers[0][0].target)
            masks = [write_line(overlay(sample.image, a.mask), f"{a.iou:.2f}") for (a,) in answers]
            rows.append([draw_prompt(picture, prompt) for picture in (truth, *masks)])
    return rows


@dataclasses.dataclass(frozen=True)
class Answer:
    """instance: position in `Sample.masks`. target, mask: bool (H, W)."""

    instance: int
    prompt: Prompt
    target: np.ndarray
    mask: np.ndarray
    iou: float


def ask(sample: Sample, evaluation: WeaklyPrompted | PromptedMasks, predict: Predict) -> list[Answer]:
    """What `evaluation` asks first about each object of an image, and the answers."""
    heard: list[tuple[Prompt, Prediction]] = []

    def watched(image: np.ndarray) -> Reply:
        reply = predict(image)

        def answer(prompts: Sequence[Prompt]) -> Sequence[Prediction]:
            found = reply(prompts)
            heard.extend(zip(prompts, found, strict=True))
            return found

        return answer

    records = evaluation.update(sample, watched)
    return [
        Answer(record.instance, prompt, np.asarray(sample.masks[record.instance]), found.best, evaluation.value(record))
        for record, (prompt, found) in zip(records, heard, strict=False)
    ]
