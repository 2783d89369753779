"""Protocols of `sadist eval` that ask a promptable model: prompts, instances, proposals, edges."""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple

import numpy as np
import tyro

from sadist_jax.cli._eval_protocol import Contender, Names, Numbers, Protocol, WithMasks, cell, digest_of, named
from sadist_jax.codecs import rle
from sadist_jax.data.bsds import BsdsBoundaries
from sadist_jax.data.coco_instances import CocoInstances
from sadist_jax.data.sample import Sample
from sadist_jax.errors import BadInput
from sadist_jax.evals import edges
from sadist_jax.evals.average_precision import Benchmark
from sadist_jax.evals.instances import Choice, InstanceMasks
from sadist_jax.evals.promptable import ORACLE, PER_IMAGE, POOLED, PromptedMasks, Record, ask_predictor
from sadist_jax.evals.proposals import EVERYTHING, ProposalRecall
from sadist_jax.predict.grid import Everything
from sadist_jax.predict.overlay import draw_prompt, overlay, overlay_labels
from sadist_jax.train import before_after
from sadist_jax.train.report import Table

ORACLE_NOTE = (
    "The best mask of each answer, which has three masks for --multimask True; as trained, SAM gives one for a box or "
    "several clicks, EfficientSAM always three."
)
SHOWN_CLICKS = (1, 2, 3, 5, 9)  # rows of the table; SAM's numbers of points (Kirillov et al. 2023, fig. 9)


class Weights(NamedTuple):
    """Who is asked: a checkpoint, and files of adapters beside its kernels."""

    checkpoint: str
    adapters: tuple[str, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Asked(Protocol):
    """Options of protocols that ask a promptable model."""

    checkpoint: Names = ()
    """[NAME=]PATH of weights: official .pth or .pt, .safetensors; may be repeated; sam_mini, which comes with the
    package, if there is none"""
    adapter: Names = ()
    """[NAME=]FILE of adapters, such as a LoRA run leaves, of the checkpoint of that name; without a name, of every
    checkpoint; repeated, they act together"""

    def contenders(self) -> dict[str, Weights]:
        found = named(self.checkpoint or ("sam_mini",), "--checkpoint")
        files: dict[str, tuple[str, ...]] = dict.fromkeys(found, ())
        for text in self.adapter:
            name, has_name, file = text.partition("=")
            if has_name and name not in found:
                raise BadInput(f"--adapter {text} is of {name}, but the checkpoints are called {', '.join(found)}")
            for one in [name] if has_name else found:
                files[one] += (file if has_name else text,)
        return {name: Weights(path, files[name]) for name, path in found.items()}

    def load(self, who: Weights) -> tuple[Any, Any, dict[str, str]]:
        """(model, params, what answers depend on); JAX is loaded only here, when the options are known to be right."""
        from sadist_jax import adapters, pretrained

        model, params = adapters.load_adapted(*who)
        return model, params, pretrained.identity(model, params)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prompts(_Asked, WithMasks):
    """Boxes and clicks on objects whose masks are known: mean IoU of the most confident mask, and of the best."""

    protocol: Annotated[PromptedMasks, tyro.conf.arg(name="")] = PromptedMasks(
        clicks=9, placements=("farthest", "inside"), min_share=0.0, per_image=0
    )
    multimask: bool | None = None
    """True: three masks for every prompt; False: one; None: as the model was trained"""
    feedback: bool = True
    """hand on the logits of the mask that is corrected, to models that take them"""

    def evaluation(self) -> PromptedMasks:
        return self.protocol

    def open(self, who: Weights) -> Contender:
        from sadist_jax.predict.predictor import Predictor

        model, params, about = self.load(who)
        predict = ask_predictor(Predictor(model, params), multimask=self.multimask, feedback=self.feedback)
        asked = {"multimask": self.multimask, "feedback": self.feedback}
        most = getattr(model, "slots", 0) or self.protocol.clicks  # an EfficientSAM reads six points, as released
        can = dataclasses.replace(self.protocol, clicks=min(self.protocol.clicks, most))
        return Contender(lambda sample: predict, about | asked, can)

    def tables(self, numbers: Numbers) -> list[Table]:
        first = max(numbers.values(), key=len)  # who could be asked most
        about = f"{first['instances']:.0f} objects in {first['images']:.0f} images"
        kinds = [kind for kind in _kinds(first) if kind == "box" or int(kind.split("_")[1]) in SHOWN_CLICKS]
        titles = {
            "": ("Mean IoU over objects", f"The most confident mask; {about}. -: the model reads fewer points."),
            ORACLE: ("Mean IoU over objects, oracle", ORACLE_NOTE),
            PER_IMAGE: ("Mean IoU over images", "The most confident mask; the mean over each image's objects first."),
            POOLED: ("IoU of the data set", "The most confident mask; all intersections by all unions."),
        }
        rows = {end: [[_words(k), *(cell(n.get(k + end)) for n in numbers.values())] for k in kinds] for end in titles}
        return [Table(title, ["", *numbers], rows[end], note) for end, (title, note) in titles.items()]

    def show(self, sample: Sample, record: Record, predict: Any) -> tuple[np.ndarray, np.ndarray]:
        short = dataclasses.replace(self.protocol, clicks=int(not self.protocol.box))
        (answer,) = (a for a in before_after.ask(sample, short, predict) if a.instance == record.instance)
        truth, found = (overlay(sample.image, mask) for mask in (answer.target, answer.mask))
        return draw_prompt(truth, answer.prompt), draw_prompt(found, answer.prompt)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Instances(_Asked):
    """A detector's boxes as prompts: average precision of the masks, on COCO or LVIS."""

    annotations: str
    """COCO's or LVIS's file of instances"""
    images_root: str
    """folder that its file names start from"""
    detections: str
    """COCO results of boxes, such as ViTDet's"""
    choice: Choice = "sam"
    """which of three masks: sam: refined once, then the most confident; box_iou: nearest to the box, as EfficientSAM;
    tiny_sam: the most confident"""
    benchmark: Benchmark = "coco"
    """whose rules: coco: 100 detections a class; lvis: 300 an image, classes that nobody looked for do not count"""
    per_image: int = 0
    """at most so many boxes of an image, the most confident; 0: all"""

    def source(self) -> CocoInstances:
        return CocoInstances(self.annotations, self.images_root, keep_empty=True)

    def evaluation(self) -> InstanceMasks:
        return InstanceMasks(self.annotations, self.detections, self.choice, self.benchmark, self.per_image)

    def open(self, who: Weights) -> Contender:
        from sadist_jax.predict.predictor import Predictor

        model, params, about = self.load(who)
        predict = ask_predictor(Predictor(model, params), multimask=InstanceMasks.multimask)
        files = {"files": digest_of(self.annotations, self.detections)}
        return Contender(lambda sample: predict, about | files)

    def show(self, sample: Sample, record: Any, predict: Any) -> tuple[np.ndarray, np.ndarray]:
        codes = [found.rle for found in self.evaluation().update(sample, predict)]
        return _labelled(sample), _labels(sample.image, [rle.decode(code) for code in codes if code])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Proposals(_Asked, WithMasks):
    """Masks of everything mode as proposals: average recall of the first 10, 100 and 1000."""

    lvis: str = ""
    """LVIS's annotation file, by which objects are also frequent, common or rare"""
    grid: Everything = Everything(**EVERYTHING)
    """clicks and thresholds; the default is SAM's for proposals"""

    def evaluation(self) -> ProposalRecall:
        return ProposalRecall(self.lvis)

    def open(self, who: Weights) -> Contender:
        from sadist_jax.predict.everything import MaskGenerator

        model, params, about = self.load(who)
        predict = MaskGenerator(model, params, self.grid, "coco_rle").generate
        asked = {"grid": self.grid.identity(), "lvis": digest_of(*[self.lvis] * bool(self.lvis))}
        return Contender(lambda sample: predict, about | asked)

    def show(self, sample: Sample, record: Any, predict: Any) -> tuple[np.ndarray, np.ndarray]:
        masks = [rle.decode(found["segmentation"]) for found in predict(sample.image)]
        return _labelled(sample), _labels(sample.image, masks)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Edges(_Asked):
    """Edges from a grid of clicks, against those that people drew: ODS, OIS, AP and R50 of BSDS500."""

    images: str
    """folder of photos: images/test"""
    ground_truth: str
    """folder of .mat files: groundTruth/test"""
    points_per_side: int = 16
    """of the grid of clicks"""
    box_nms_thresh: float = 0.7
    """IoU of boxes above which the less sure mask goes"""
    thresholds: int = 99
    """of the strength of edges, evenly spaced"""
    max_distance: float = 0.0075
    """of matched pixels, by the diagonal of the image"""

    def source(self) -> BsdsBoundaries:
        return BsdsBoundaries(self.images, self.ground_truth)

    def evaluation(self) -> edges.Edges:
        return edges.Edges(self.thresholds, self.max_distance)

    def open(self, who: Weights) -> Contender:
        from sadist_jax.predict.edges import EdgeDetector

        model, params, about = self.load(who)
        options = {"points_per_side": self.points_per_side, "box_nms_thresh": self.box_nms_thresh}
        predict = EdgeDetector(model, params, **options).detect
        return Contender(lambda sample: predict, about | options)

    def show(self, sample: Sample, record: Any, predict: Any) -> tuple[np.ndarray, np.ndarray]:
        drawn = np.mean(np.asarray(sample.masks, np.float32), 0)
        return _grey(drawn), _grey(predict(sample.image))


def _labelled(sample: Sample) -> np.ndarray:
    return _labels(sample.image, [np.asarray(mask) for mask in sample.masks])


def _labels(image: np.ndarray, masks: list[np.ndarray]) -> np.ndarray:
    """The photo with all masks over it, small ones on top."""
    labels = np.zeros(image.shape[:2], int)
    for number, mask in enumerate(sorted(masks, key=np.count_nonzero, reverse=True), 1):
        labels[mask.astype(bool)] = number
    return overlay_labels(image, labels)


def _grey(values: np.ndarray) -> np.ndarray:
    """Black on white, so that thin lines show."""
    return np.repeat(255 - np.rint(255 * np.clip(values, 0, 1)).astype(np.uint8)[..., None], 3, 2)


def _kinds(scores: Mapping[str, float]) -> list[str]:
    """Names of the means over objects of the most confident mask."""
    return [name for name in scores if name + ORACLE in scores]


def _words(kind: str) -> str:
    """farthest_3 -> 3 clicks, farthest."""
    placement, _, number = kind.partition("_")
    return f"{number} click{'s' * (number != '1')}, {placement}" if number else kind
