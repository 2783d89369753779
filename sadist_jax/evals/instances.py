"""Zero-shot instance segmentation: a detector's boxes are prompts, and the masks get the detector's classes and scores.

Source: Kirillov et al. 2023, "Segment Anything", sec. 7.4 and app. D. Of the masks that a box gets, one goes to the
benchmark; the published numbers differ in which (see `InstanceMasks.choice`), so that they compare only with their own.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, get_args

import numpy as np

from sadist_jax.codecs import prompts, rle
from sadist_jax.codecs.prompts import Prediction, Prompt
from sadist_jax.data import coco_json
from sadist_jax.data.detections import NO_BOXES, Boxes, read_boxes
from sadist_jax.data.sample import Sample, Unreadable
from sadist_jax.errors import BadInput
from sadist_jax.evals.average_precision import Benchmark, average_precision, load_hotcoco
from sadist_jax.evals.promptable import Predict, Reply, ious_of

Choice = Literal["sam", "box_iou", "tiny_sam"]
AT_ONCE = 64  # boxes of an image; each has three masks of the image's size in memory
NOTHING = -1  # category of an image's own record


class Record(NamedTuple):
    """One detection. An image without boxes has one record of category NOTHING, so that it is known as looked at.

    image: name of the sample. image_id: its id in the annotation file. category_id, score: the detector's.
    iou: highest IoU with the image's objects of this category, crowds apart; it has no part in the benchmark. Of an
      image without boxes: 1 where there is nothing to find, 0 else.
    rle: the mask, compressed; None for NOTHING, and for a box that is empty or outside of the image, which is dropped.
    """

    image: str
    image_id: int | str
    category_id: int
    score: float
    iou: float
    rle: dict[str, Any] | None


class _Files(NamedTuple):
    """names: file_name -> (image id, (height, width)). boxes: by image id."""

    names: dict[str, tuple[Any, tuple[int, int]]]
    boxes: dict[Any, Boxes]


@dataclass(frozen=True)
class InstanceMasks:
    """Average precision of the masks for a detector's boxes, on COCO or LVIS.

    `predict` must answer with three masks: `ask_predictor(predictor, multimask=InstanceMasks.multimask)`. With one mask
    an answer, all rules but the refinement of "sam" are one.

    annotations: COCO's or LVIS's file. Samples are found in it by their name.
    detections: COCO results of boxes for these images.
    choice: which mask of three.

      | value      | the mask                                                     | source                             |
      |------------|--------------------------------------------------------------|------------------------------------|
      | "sam"      | the most confident for the box and the logits of the most    | Kirillov et al. 2023, app. D       |
      |            | confident for the box alone: one refinement                  |                                    |
      | "box_iou"  | whose own box has the highest IoU with the box (our reading  | Xiong et al. 2023, "EfficientSAM", |
      |            | of "with the highest IoU"); of equals, the most confident    | table 5                            |
      | "tiny_sam" | the most confident                                           | TinySAM's code, folder eval        |

      SAM's paper does not say how many masks the refinement returns; three, as the first pass, is ours. Models without
      mask prompts are asked the same again by "sam", which is then "tiny_sam".
    benchmark: whose rules and numbers: see `average_precision`.
    per_image: at most so many boxes, the most confident; 0: all. COCO counts 100 per class, LVIS 300.

    Boxes are clipped to the image and else given as they are, x to x + w, as in TinySAM's code, though SAM's own boxes
    end on the last pixel of an object.

    Example:
      evaluation = InstanceMasks("instances_val2017.json", "vitdet.json", "box_iou")
      predict = ask_predictor(predictor, multimask=evaluation.multimask)
      records = merge(evaluation.update(sample, predict) for sample in samples)
      evaluation.finish(records)["AP"]
    """

    record: ClassVar = Record
    multimask: ClassVar[bool] = True

    annotations: str
    detections: str
    choice: Choice = "sam"
    benchmark: Benchmark = "coco"
    per_image: int = 0

    def __post_init__(self):
        for name, values in (("choice", get_args(Choice)), ("benchmark", get_args(Benchmark))):
            if getattr(self, name) not in values:
                raise BadInput(f"{name} is {getattr(self, name)!r}; it must be one of {', '.join(values)}")
        if self.per_image < 0:
            raise BadInput(f"per_image is {self.per_image}; it must be 0 (all boxes) or more")

    def update(self, sample: Sample, predict: Predict) -> tuple[Record, ...]:
        """Records of one image: of its boxes in the file's order, those dropped last, or of category NOTHING.

        Raises BadInput: a file is unfit, or does not have this image.
        """
        key = self._id_of(sample)
        boxes = self._files.boxes.get(key, NO_BOXES)
        if not len(boxes.scores):
            return (Record(sample.name, key, NOTHING, 0.0, float(not (~np.asarray(sample.iscrowd)).any()), None),)
        empty = boxes.take(boxes.empty)
        dropped = [Record(sample.name, key, int(c), float(s), 0.0, None) for _, s, c in zip(*empty, strict=True)]
        return (*self._found(sample, key, self._most_confident(boxes.take(~boxes.empty)), predict), *dropped)

    def finish(self, records: Sequence[Record]) -> dict[str, float]:
        """AP, AP50, AP75, APs, APm, APl, for LVIS also APr, APc and APf, over the images that have records.

        "images", "masks", and "dropped": boxes that were empty or outside of their image. A number without ground truth
        is left out, where the official programs print -1.
        """
        images = {record.image_id for record in records}
        masks = [
            {"image_id": r.image_id, "category_id": r.category_id, "score": r.score, "segmentation": r.rle}
            for r in records
            if r.rle is not None
        ]
        dropped = sum(record.rle is None and record.category_id != NOTHING for record in records)
        numbers: dict[str, float] = {"images": len(images), "masks": len(masks), "dropped": dropped}
        return numbers | (average_precision(self.annotations, self.benchmark, images, masks) if images else {})

    def value(self, record: Record) -> float:
        """IoU with the nearest object of the same category."""
        return record.iou

    @functools.cached_property
    def _files(self) -> "_Files":
        """Without the annotations, which of LVIS take gigabytes."""
        load_hotcoco()  # so that it is not missed at the end
        images, _, categories = coco_json.read_tables(self.annotations)
        names = {row["file_name"]: (key, (row["height"], row["width"])) for key, row in images.items()}
        if len(names) < len(images):
            raise BadInput(f"{self.annotations} has {len(images) - len(names)} images whose file_name another one has")
        return _Files(names, read_boxes(self.detections, images, categories))

    def _id_of(self, sample: Sample) -> Any:
        known = self._files.names.get(sample.name)
        if known is None:
            raise BadInput(f"{sample.name} is no file_name in {self.annotations}; give the annotations of these images")
        key, size = known
        if sample.image.shape[:2] != size:
            (h, w), (height, width) = sample.image.shape[:2], size
            listed = f"{self.annotations} says {height} x {width}"
            raise Unreadable(sample.name, f"{sample.name} has {h} x {w} pixels (h x w), but {listed}; fetch it again")
        return key

    def _most_confident(self, boxes: Boxes) -> Boxes:
        """As many as count, in the file's order."""
        if not self.per_image or len(boxes.scores) <= self.per_image:
            return boxes
        return boxes.take(np.sort(np.argsort(-boxes.scores, kind="stable")[: self.per_image]))

    def _found(self, sample: Sample, key: Any, boxes: Boxes, predict: Predict) -> list[Record]:
        if not len(boxes.scores):
            return []
        reply, objects, records = predict(sample.image), _objects(sample), []
        for start in range(0, len(boxes.scores), AT_ONCE):
            some = boxes.take(np.arange(start, min(start + AT_ONCE, len(boxes.scores))))
            for mask, score, c in zip(self._masks(reply, some.xyxy), some.scores, some.categories, strict=True):
                iou = _best_iou(mask, objects.get(int(c)))
                code = rle.compress(rle.encode(mask))
                records.append(Record(sample.name, key, int(c), float(score), iou, code))
        return records

    def _masks(self, reply: Reply, boxes: np.ndarray) -> list[np.ndarray]:
        """The chosen (h, w) for each of the boxes (n, 4) xyxy."""
        asked = [Prompt(box=box) for box in boxes]
        answers = reply(asked)
        if self.choice == "box_iou":
            return [a.masks[_nearest(a, box)] for a, box in zip(answers, boxes, strict=True)]
        if self.choice == "sam":
            sure = [a.low_res_logits[int(np.argmax(a.ious))][None] for a in answers]
            answers = reply([ask._replace(mask=mask) for ask, mask in zip(asked, sure, strict=True)])
        return [a.best for a in answers]


def _nearest(answer: Prediction, box: np.ndarray) -> int:
    """Position of the mask whose own box has the highest IoU with the box xyxy; an empty one has IoU 0."""
    last = np.array([0, 0, 1, 1])  # pixels have a width
    ious = [_box_iou(prompts.box_of(mask) + last, box) if mask.any() else 0.0 for mask in answer.masks]
    return max(range(len(ious)), key=lambda i: (ious[i], answer.ious[i]))


def _box_iou(one: np.ndarray, other: np.ndarray) -> float:
    """Of boxes xyxy, ends not included, that are not empty."""
    sides = np.maximum(0, np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2]))
    both = sides.prod()
    return float(both / ((one[2:] - one[:2]).prod() + (other[2:] - other[:2]).prod() - both))


def _objects(sample: Sample) -> dict[int, np.ndarray]:
    """Category -> masks (n, h, w) of its objects, crowds apart."""
    grouped: dict[int, list[np.ndarray]] = {}
    for i in np.flatnonzero(~np.asarray(sample.iscrowd)):
        grouped.setdefault(int(sample.category[i]), []).append(np.asarray(sample.masks[int(i)], bool))
    return {category: np.stack(masks) for category, masks in grouped.items()}


def _best_iou(mask: np.ndarray, objects: np.ndarray | None) -> float:
    return float(ious_of(objects, mask).max()) if objects is not None and mask.any() else 0.0
