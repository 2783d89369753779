"""Zero-shot promptable segmentation: a simulated user boxes and clicks objects whose masks are known.

Sources: Xiong et al. 2023, "EfficientSAM", sec. 4.3: a tight box, one click, three clicks, at random in the object;
Kirillov et al. 2023, "Segment Anything", app. D: clicks in the middle of the object and of the errors. Both score the
most confident mask; the best mask of an answer is SAM's "oracle".
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

import numpy as np

from sadist_jax.codecs import prompts
from sadist_jax.codecs.prompts import Prediction, Prompt
from sadist_jax.data.sample import Sample

if TYPE_CHECKING:
    from sadist_jax.models.efficient_sam import EfficientSam
    from sadist_jax.models.sam import Sam

ORACLE = "_oracle"  # ending of the scores of the best mask of an answer

# All prompts of a call are of one kind: tight boxes, inclusive as `box_of` makes them, or equally many points. With the
# second and later points comes the mask that the user saw and corrects; who takes no mask prompts ignores it.
Reply = Callable[[Sequence[Prompt]], Sequence[Prediction]]
Predict = Callable[[np.ndarray], Reply]  # uint8 RGB (H, W, 3) -> its replies, so that an image is encoded once


class Record(NamedTuple):
    """Scores of one object.

    image: name of the sample. instance: its position in `Sample.masks`. share: its area by the image's.
    ious: IoU of the most confident mask for each kind of prompt: "box", "random_1", ..., "farthest_3"; with ORACLE at
      the end, of the best mask.
    """

    image: str
    instance: int
    share: float
    ious: dict[str, float]


@dataclass(frozen=True)
class PromptedMasks:
    """IoU for a tight box, and after each of some clicks.

    box: whether to ask with boxes.
    clicks: how many, one after the other; each answer is scored. After the first, a click goes where the last answer
      was wrong (missed: label 1, wrongly taken: label 0), unless it is placed "inside". A user to whom nothing is wrong
      stops: the score stays.
    placements: where clicks are put. "inside": uniformly in the object, all of them, whatever the answers were
      (EfficientSAM). "random": uniformly, in the object and then in the wrong pixels (as SAM is trained). "farthest":
      from the boundary of the object, then of the wrong region (SAM).
    min_share: smaller objects are left out; of the image's area. Ours.
    per_image: at most so many objects, drawn at random, so that crowded images do not dominate; 0: all. Ours.
    seed: of the draws, which depend on it, the image's name and the object's position, and on nothing else: every
      model gets the same boxes and first clicks.

    Example:
      evaluation = PromptedMasks()
      records = evaluation.merge(evaluation.update(sample, predict) for sample in samples)
      evaluation.finish(records)["random_1"]
    """

    box: bool = True
    clicks: int = 3
    placements: tuple[Literal["inside", "random", "farthest"], ...] = ("random",)
    min_share: float = 0.001
    per_image: int = 8
    seed: int = 0

    def update(self, sample: Sample, predict: Predict) -> tuple[Record, ...]:
        """Records of one image, () when none of its objects counts. Crowds do not."""
        chosen = self._choose(sample)
        if not chosen:
            return ()
        targets, reply = list(chosen.values()), predict(sample.image)
        records = [Record(sample.name, i, float(mask.mean()), {}) for i, mask in chosen.items()]
        if self.box:
            answers = reply([Prompt(box=prompts.box_of(target)) for target in targets])
            for record, answer, target in zip(records, answers, targets, strict=True):
                record.ious.update(_score("box", answer, target)[1])
        for placement in self.placements:
            rngs = [self._rng(sample.name, placement, i) for i in chosen]
            users = [_User(placement, target, rng) for target, rng in zip(targets, rngs, strict=True)]
            self._click(reply, users, [record.ious for record in records])
        return tuple(records)

    @staticmethod
    def merge(parts: Iterable[Sequence[Record]]) -> tuple[Record, ...]:
        """All records, in the order of the parts."""
        return tuple(record for part in parts for record in part)

    @staticmethod
    def finish(records: Sequence[Record]) -> dict[str, float]:
        """Mean IoU over the objects for each kind of prompt, and the numbers of "images" and "instances".

        Without records there are no means, only the two numbers, 0.
        """
        numbers: dict[str, float] = {"images": len({r.image for r in records}), "instances": len(records)}
        kinds = records[0].ious if records else ()
        return numbers | {kind: float(np.mean(column(records, kind))) for kind in kinds}

    def _choose(self, sample: Sample) -> dict[int, np.ndarray]:
        """Position -> mask of the objects that count, in rising order."""
        least = max(1.0, self.min_share * sample.image.shape[0] * sample.image.shape[1])
        masks = {int(i): np.asarray(sample.masks[int(i)], bool) for i in np.flatnonzero(~np.asarray(sample.iscrowd))}
        large = [i for i, mask in masks.items() if np.count_nonzero(mask) >= least]
        if self.per_image and len(large) > self.per_image:
            large = sorted(self._rng(sample.name, "objects").choice(large, self.per_image, replace=False).tolist())
        return {i: masks[i] for i in large}

    def _click(self, reply: Reply, users: list["_User"], scores: list[dict[str, float]]) -> None:
        """All objects of an image at once, one call for each click."""
        for number in range(1, self.clicks + 1):
            busy = [user for user in users if user.ask is not None]
            answers = reply([user.ask for user in busy if user.ask]) if busy else []
            for user, answer in zip(busy, answers, strict=True):
                user.see(answer)
            for user, score in zip(users, scores, strict=True):
                score.update({f"{user.placement}_{number}{ending}": iou for ending, iou in user.score.items()})

    def _rng(self, *what: Any) -> np.random.Generator:
        words = "/".join(str(word) for word in (self.seed, *what))
        return np.random.default_rng(list(hashlib.sha256(words.encode("utf-8", "surrogateescape")).digest()))


class _User:
    """Clicks on one object until it is found. ask: the next, None when content. score: {"": IoU, ORACLE: IoU}."""

    def __init__(self, placement: str, target: np.ndarray, rng: np.random.Generator):
        self.placement, self.target, self.rng = placement, target, rng
        first = prompts.farthest_point(target) if placement == "farthest" else prompts.sample_point(target, rng)
        self.points, self.labels = first[None], np.ones(1, np.int32)
        self.ask: Prompt | None = Prompt(self.points, self.labels)
        self.score: dict[str, float] = {}

    def see(self, answer: Prediction) -> None:
        """Score the answer to the click, and decide on the next."""
        best, self.score = _score("", answer, self.target)
        if self.placement == "inside":
            self._add(prompts.sample_point(self.target, self.rng), 1, None)
            return
        shown = answer.masks[best]
        if self.placement == "farthest":
            click = prompts.farthest_error_click(shown, self.target)
        else:
            click = prompts.error_click(shown, self.target, self.rng)
        if click is None:
            self.ask = None
            return
        self._add(*click, answer.low_res_logits[best][None])

    def _add(self, point: np.ndarray, label: int, mask: np.ndarray | None) -> None:
        self.points, self.labels = np.vstack([self.points, point]), np.append(self.labels, np.int32(label))
        self.ask = Prompt(self.points, self.labels, mask=mask)


class Clickable(Protocol):
    """What of a `sadist_jax.Predictor` is used here; its room is on this floor."""

    @property
    def model(self) -> "Sam | EfficientSam": ...

    def set_image(self, image: np.ndarray) -> None: ...

    def predict_many(self, prompts: Sequence[Prompt], multimask: bool | None = None) -> Sequence[Prediction]: ...


def ask_predictor(predictor: Clickable, *, multimask: bool | None = None, feedback: bool = True) -> Predict:
    """`Predict` of a `sadist_jax.Predictor`.

    Args:
      predictor: whom to ask.
      multimask: as for the predictor; None: as the model was trained.
      feedback: hand on the logits of the corrected mask, as SAM was trained, to models that take them.
    """

    def reply(asked: Sequence[Prompt]) -> Sequence[Prediction]:
        if not (feedback and predictor.model.takes_masks):
            asked = [prompt._replace(mask=None) for prompt in asked]
        return predictor.predict_many(asked, multimask)

    def predict(image: np.ndarray) -> Reply:
        predictor.set_image(image)
        return reply

    return predict


def column(records: Sequence[Record], kind: str) -> np.ndarray:
    """(n,) IoUs for one kind of prompt."""
    return np.array([record.ious[kind] for record in records], np.float64)


def images_of(records: Sequence[Record]) -> np.ndarray:
    """(n,) names of the images: the groups of a bootstrap."""
    return np.array([record.image for record in records])


def ious_of(masks: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Intersection over union of masks (c, h, w) bool with one that is not empty, (h, w) bool: float64 (c,)."""
    if masks.shape[1:] != target.shape:
        raise ValueError(f"masks have {masks.shape[1:]} pixels, their target {target.shape}")
    both = np.count_nonzero(masks & target, axis=(1, 2))
    return both / (np.count_nonzero(masks, axis=(1, 2)) + np.count_nonzero(target) - both)


def _score(kind: str, answer: Prediction, target: np.ndarray) -> tuple[int, dict[str, float]]:
    """(position of the most confident mask, its score and the best one's)."""
    best, ious = int(np.argmax(answer.ious)), ious_of(np.asarray(answer.masks, bool), target)
    return best, {kind: float(ious[best]), kind + ORACLE: float(ious.max())}
