"""SA-1B, and data in its format: a JSON of RLE masks beside every picture."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sadist_jax.codecs import rle
from sadist_jax.data import coco_json, images
from sadist_jax.data.listed import ListedNames
from sadist_jax.data.names import Names, first_five, stem, walk
from sadist_jax.data.sample import Masks, Sample, Unreadable, uncategorised
from sadist_jax.errors import BadInput


@dataclass(frozen=True)
class Sa1b:
    """All pairs NAME.jpg + NAME.json below `root`, e.g. sa_000020/sa_223750.jpg and sa_223750.json.

    The JSON has {"image": {"height", "width", ...}, "annotations": [{"segmentation": RLE, ...}, ...]}; masks have no
    category. The JSONs are read when their picture is, because there are 11 million of them; a broken one is a
    damaged sample, and a picture without masks gets weight 0.
    """

    root: str

    def open(self) -> "Sa1bReader":
        found = walk(self.root, (".jpg", ".jpeg", ".json"))
        pictures = [name for name in found if not name.lower().endswith(".json")]
        annotated = {stem(name) for name in found if name.lower().endswith(".json")}
        if not pictures:
            raise BadInput(f"no pictures (.jpg) found in {self.root} or below it; give the folder of SA-1B's archives")
        lonely = [name for name in pictures if stem(name) not in annotated]
        if lonely:
            raise BadInput(
                f"{len(lonely)} of {len(pictures)} pictures in {self.root} have no .json beside them: "
                f"{first_five(lonely)}; unpack the archives whole, or read them with Folder for training without masks"
            )
        if len(annotated) != len(pictures):
            orphans = sorted(annotated - {stem(name) for name in pictures})
            raise BadInput(
                f"{self.root} has {len(pictures)} pictures but {len(annotated)} .json files; these have no picture of "
                f"their own beside them: {first_five(orphans)}; unpack the archives whole"
            )
        return Sa1bReader(Names(pictures), self.root)


@dataclass(frozen=True)
class Sa1bReader(ListedNames):
    root: str

    def __getitem__(self, index: int) -> Sample:
        name = self.pictures[index]
        path = Path(self.root, stem(name) + ".json")
        size, found = _read_annotations(path)
        image = images.read_image(Path(self.root, name), size)

        def decode(i: int) -> np.ndarray:
            return rle.decode(found[i], size, f"annotation number {i} of {path}")

        return uncategorised(image, Masks(name, len(found), decode), name)


def _read_annotations(path: Path) -> tuple[tuple[int, int], list]:
    """((h, w) of the picture, segmentations)."""
    try:
        data = coco_json.read_json(path)
        size = (data["image"]["height"], data["image"]["width"])
        return size, [annotation["segmentation"] for annotation in data["annotations"]]
    except BadInput as error:
        raise Unreadable(str(path), str(error)) from None
    except (KeyError, TypeError):
        message = f"{path} lacks image.height, image.width or annotations with segmentation; it is not SA-1B's format"
        raise Unreadable(str(path), message) from None
