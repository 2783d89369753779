"""Zero-shot promptable segmentation: a simulated user boxes and clicks objects whose masks are known.

Sources: Xiong et al. 2023, "EfficientSAM", sec. 4.3: a tight box, one click, three clicks, at random in the object;
Kirillov et al. 2023, "Segment Anything", app. D: clicks in the middle of the object and of the errors. Both score the
most confident mask; the best mask of an answer is SAM's "oracle".
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Protocol

import numpy as np

from sadist_jax.codecs import prompts
from sadist_jax.codecs.prompts import Prediction, Prompt
from sadist_jax.data.sample import Sample
from sadist_jax.errors import BadInput

if TYPE_CHECKING:
    from sadist_jax.models.efficient_sam import EfficientSam
    from sadist_jax.models.sam import Sam

ORACLE = "_oracle"  # ending of the scores of the best mask of an answer
PER_IMAGE, POOLED = "_per_image", "_pooled"  # endings of means over images, and over pixels

# All prompts of a call are of one kind: tight boxes, inclusive as `box_of` makes them, or equally many points. With the
# second and later points comes the mask that the user saw and corrects; who takes no mask prompts ignores it.
Reply = Callable[[Sequence[Prompt]], Sequence[Prediction]]
Predict = Callable[[np.ndarray], Reply]  # uint8 RGB (H, W, 3) -> its replies, so that an image is encoded once
Areas = tuple[float, float]  # pixels of an intersection and of the union


class Record(NamedTuple):
    """Scores of one object.

    image: name of the sample. instance: its position in `Sample.masks`. share: its area by the image's.
    areas: pixels of the most confident mask's intersection and union with the object for each kind of prompt: "box",
      "random_1", ..., "farthest_3"; with ORACLE at the end, of the best mask's.
    """

    image: str
    instance: int
    share: float
    areas: dict[str, Areas]

    @property
    def ious(self) -> dict[str, float]:
        """Intersection over union for each kind of prompt."""
        return {kind: both / either for kind, (both, either) in self.areas.items()}


@dataclass(frozen=True)
class PromptedMasks:
    """IoU for a tight box, and after each of some clicks.

    Attributes:
      box: whether to ask with boxes.
      clicks: how many, one after the other; each answer is scored. After the first, a click goes where the last answer
        was wrong (missed: label 1, wrongly taken: label 0), unless it is placed "inside". A user to whom nothing is
        wrong stops: the score stays.
      placements: where clicks are put. "inside": uniformly in the object, all of them, whatever the answers were
        (EfficientSAM). "random": uniformly, in the object and then in the wrong pixels (as SAM is trained). "farthest":
        from the boundary of the object, then of the wrong region (SAM).
      min_share: smaller objects are left out; of the image's area. Ours.
      per_image: at most so many objects, drawn at random, so that crowded images do not dominate; 0: all. Ours.
      seed: of the draws, which depend on it, the image's name and the object's position, and on nothing else: every
        model gets the same boxes and first clicks.

    Example:
      evaluation = PromptedMasks()
      records = merge(evaluation.update(sample, predict) for sample in samples)
      evaluation.finish(records)["random_1"]
    """

    record: ClassVar = Record

    box: bool = True
    clicks: int = 3
    placements: tuple[Literal["inside", "random", "farthest"], ...] = ("random",)
    min_share: float = 0.001
    per_image: int = 8
    seed: int = 0

    def __post_init__(self):
        if not self.box and not (self.clicks and self.placements):
            raise BadInput("nothing is asked: there are no boxes, and no clicks or placements of them")
        if self.clicks < 0 or self.per_image < 0 or not 0 <= self.min_share <= 1:
            raise BadInput("clicks and per_image must be 0 or more, min_share a share of the image, from 0 to 1")

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
                record.areas.update(_score("box", answer, target)[1])
        for placement in self.placements:
            rngs = [self._rng(sample.name, placement, i) for i in chosen]
            users = [_User(placement, target, rng) for target, rng in zip(targets, rngs, strict=True)]
            self._click(reply, users, [record.areas for record in records])
        return tuple(records)

    def finish(self, records: Sequence[Record]) -> dict[str, float]:
        """Mean IoU for each kind of prompt, and the numbers of "images" and "instances".

        A kind alone is the mean over the objects (SAM, EfficientSAM); with PER_IMAGE, the mean over images of the mean
        over their objects (as WeSAM averages; its threshold and frame are others); with POOLED, all intersections by
        all unions, to which large objects give most.
        Without records there are no means, only the two numbers, 0.
        """
        numbers: dict[str, float] = {"images": len({r.image for r in records}), "instances": len(records)}
        kinds = records[0].areas if records else ()
        return numbers | {name: mean for kind in kinds for name, mean in _means(records, kind)}

    def value(self, record: Record) -> float:
        """IoU of the most confident mask for the first kind of prompt."""
        return next(iter(record.ious.values()))

    def _choose(self, sample: Sample) -> dict[int, np.ndarray]:
        """Position -> mask of the objects that count, in rising order."""
        least = max(1.0, self.min_share * sample.image.shape[0] * sample.image.shape[1])
        masks = {int(i): np.asarray(sample.masks[int(i)], bool) for i in np.flatnonzero(~np.asarray(sample.iscrowd))}
        large = [i for i, mask in masks.items() if np.count_nonzero(mask) >= least]
        if self.per_image and len(large) > self.per_image:
            large = sorted(self._rng(sample.name, "objects").choice(large, self.per_image, replace=False).tolist())
        return {i: masks[i] for i in large}

    def _click(self, reply: Reply, users: list["_User"], scores: list[dict[str, Areas]]) -> None:
        """All objects of an image at once, one call for each click."""
        for number in range(1, self.clicks + 1):
            busy = [user for user in users if user.ask is not None]
            answers = reply([user.ask for user in busy if user.ask]) if busy else []
            for user, answer in zip(busy, answers, strict=True):
                user.see(answer)
            for user, score in zip(users, scores, strict=True):
                score.update({f"{user.placement}_{number}{ending}": areas for ending, areas in user.score.items()})

    def _rng(self, *what: Any) -> np.random.Generator:
        words = "/".join(str(word) for word in (self.seed, *what))
        return np.random.default_rng(list(hashlib.sha256(words.encode("utf-8", "surrogateescape")).digest()))


class _User:
    """Clicks on one object until it is found. ask: the next, None when content. score: areas of "" and ORACLE."""

    def __init__(self, placement: str, target: np.ndarray, rng: np.random.Generator):
        self.placement, self.target, self.rng = placement, target, rng
        first = prompts.farthest_point(target) if placement == "farthest" else prompts.sample_point(target, rng)
        self.points, self.labels = first[None], np.ones(1, np.int32)
        self.ask: Prompt | None = Prompt(self.points, self.labels)
        self.score: dict[str, Areas] = {}

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


def kinds_of(records: Sequence[Record]) -> list[str]:
    """Kinds of prompts that the records have scores of."""
    return [kind for kind in (records[0].areas if records else ()) if not kind.endswith(ORACLE)]


def ious_of(masks: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Intersection over union of masks (c, h, w) bool with one that is not empty, (h, w) bool: float64 (c,)."""
    both, either = _areas(masks, target)
    return both / either


def _areas(masks: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(pixels of the intersections (c,), of the unions (c,))."""
    if masks.shape[1:] != target.shape:
        raise ValueError(f"masks have {masks.shape[1:]} pixels, their target {target.shape}")
    both = np.count_nonzero(masks & target, axis=(1, 2))
    return both, np.count_nonzero(masks, axis=(1, 2)) + np.count_nonzero(target) - both


def _score(kind: str, answer: Prediction, target: np.ndarray) -> tuple[int, dict[str, Areas]]:
    """(position of the most confident mask, its areas and the best one's)."""
    both, either = _areas(np.asarray(answer.masks, bool), target)
    sure, best = int(np.argmax(answer.ious)), int(np.argmax(both / either))
    return sure, {kind + end: (int(both[i]), int(either[i])) for end, i in (("", sure), (ORACLE, best))}


def _means(records: Sequence[Record], kind: str) -> Iterator[tuple[str, float]]:
    ious, images = column(records, kind), np.unique(images_of(records), return_inverse=True)[1]
    yield kind, float(ious.mean())
    yield kind + PER_IMAGE, float((np.bincount(images, ious) / np.bincount(images)).mean())
    both, either = np.array([record.areas[kind] for record in records]).sum(0)
    yield kind + POOLED, float(both / either)
