"""Protocols of `sadist eval` for maps of classes that lie in files, and for classifiers."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from sadist_jax.cli._eval_protocol import Contender, Names, Protocol, WithMasks, digest_of, named
from sadist_jax.data.class_crops import CentreCrops
from sadist_jax.data.class_folders import ClassFolders
from sadist_jax.data.images import read_ids
from sadist_jax.data.names import stem
from sadist_jax.data.sample import Sample
from sadist_jax.data.tfds import Tfds
from sadist_jax.errors import BadInput
from sadist_jax.evals.classification import TopK
from sadist_jax.evals.semantic import SemanticMaps
from sadist_jax.predict.overlay import overlay_labels, write_line


@dataclasses.dataclass(frozen=True, kw_only=True)
class Maps(WithMasks):
    """Label maps in files, whoever made them: mean IoU, boundary F and weighted F of the classes."""

    predictions: Names = ()
    """[NAME=]DIR of label maps, a PNG of class ids for each picture under its relative name; may be repeated"""
    protocol: Annotated[SemanticMaps, tyro.conf.arg(name="")]

    def evaluation(self) -> SemanticMaps:
        return self.protocol

    def check(self) -> None:
        super().check()
        void = getattr(self.data, "ignore", ())
        if both := sorted(set(void) & set(self.protocol.classes)):
            others = " ".join(str(i) for i in void if i not in both) or "255"
            raise BadInput(
                f"class {both[0]} is void in the data by --data.ignore; if it is a class, say --data.ignore {others}"
            )

    def contenders(self) -> dict[str, str]:
        if not self.predictions:
            raise BadInput("there is nothing to score; name a folder of label maps with --predictions DIR")
        return named(self.predictions, "--predictions")

    def open(self, who: str) -> Contender:
        folder = Path(who).absolute()
        if not folder.is_dir():
            raise BadInput(f"--predictions {who} is not a folder; give one with a PNG for each picture")

        def answer(sample: Sample) -> Callable[[np.ndarray], np.ndarray]:
            return lambda image: read_ids(folder / (stem(sample.name) + ".png"))

        files = sorted(folder.rglob("*.png"))
        names = [str(path.relative_to(folder)) for path in files]
        return Contender(answer, {"predictions": names, "content": digest_of(*files)})

    def show(self, sample: Sample, record: Any, predict: Any) -> tuple[np.ndarray, np.ndarray]:
        truth = np.zeros(sample.image.shape[:2], int)
        for mask, category in zip(sample.masks, sample.category, strict=True):
            truth[np.asarray(mask, bool)] = category + 1
        answered = np.where(truth == 0, 0, np.asarray(predict(sample.image)) + 1)
        return overlay_labels(sample.image, truth), overlay_labels(sample.image, answered)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Classes(Protocol):
    """Classifiers on labelled pictures: how often the class is the likeliest, or among the first five."""

    data: ClassFolders | Tfds
    checkpoint: Names = ()
    """[NAME=]PATH of a classifier's weights; may be repeated"""
    resize: int | None = None
    """pixels of the shorter side before the middle is cut out; 8/7 of the model's size if not given: 256 for 224"""
    top: tuple[int, ...] = (1, 5)
    """how many guesses; each must be below the number of classes: --top 1 where there are few"""

    def source(self) -> Any:
        return self.data

    def evaluation(self) -> TopK:
        return TopK(self.top)

    def contenders(self) -> dict[str, str]:
        if not self.checkpoint:
            raise BadInput("there is nothing to score; name a classifier's weights with --checkpoint PATH")
        return named(self.checkpoint, "--checkpoint")

    def open(self, who: str) -> Contender:
        import jax

        from sadist_jax import pretrained
        from sadist_jax.ops.pixels import normalize

        model, params = pretrained.load_classifier(who)
        size = model.vit.image_size
        resize = round(size * 8 / 7) if self.resize is None else self.resize
        if resize < size:
            raise BadInput(f"--resize {resize} leaves no middle of {size} px, which this model sees; raise it")
        if not all(0 < k < model.classes for k in self.top):
            raise BadInput(
                f"--top must be numbers from 1 to {model.classes - 1}: the model knows {model.classes} classes"
            )
        middle = CentreCrops(size, resize, model.classes)
        logits = jax.jit(lambda params, image: model.apply(params, normalize(image[None]))[0][0])

        def answer(sample: Sample) -> Callable[[np.ndarray], np.ndarray]:
            return lambda image: np.asarray(logits(params, middle.crop(image)))

        return Contender(answer, pretrained.identity(model, params) | {"resize": resize})

    def show(self, sample: Sample, record: Any, predict: Any) -> tuple[np.ndarray, np.ndarray]:
        answer = int(np.argmax(predict(sample.image)))
        return write_line(sample.image, f"class {sample.label}"), write_line(sample.image, f"class {answer}")
