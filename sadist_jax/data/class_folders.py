"""Pictures in one folder a class, as ImageNet is laid out."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sadist_jax.data import images
from sadist_jax.data.listed import ListedNames
from sadist_jax.data.names import Names, first_five, walk
from sadist_jax.data.sample import Sample, unlabelled
from sadist_jax.errors import BadInput


@dataclass(frozen=True)
class ClassFolders:
    """Pictures root/<class>/... with the class as label, e.g. ClassFolders("imagenet/train").

    Labels are the folders' places in sorted order, which for ImageNet is the order of all released models. Below a
    class's folder it is as in `Folder`. A class without pictures is refused, because the labels after it would differ
    from those of a part that has some; and so are pictures that lie in no class's folder.

    classes: names of folders in the order of their labels; other folders are not looked at. (): all, sorted.
    """

    root: str
    classes: tuple[str, ...] = ()

    def open(self) -> "ClassFoldersReader":
        pictures = walk(self.root, images.ENDINGS)
        if loose := [name for name in pictures if "/" not in name]:
            raise BadInput(
                f"{self.root} has {len(loose)} pictures in no class's folder: {first_five(loose)}; move them into "
                "folders, or give the folder above"
            )
        below = (path.name for path in Path(self.root).iterdir() if path.is_dir())
        classes = self.classes or tuple(sorted(name for name in below if not name.startswith(".")))
        if len(classes) < 2 or len(set(classes)) < len(classes):
            raise BadInput(
                f"{self.root} has the classes {', '.join(classes) or '(none)'}; give a folder with two folders or "
                "more, one a class"
            )
        numbers = {name: number for number, name in enumerate(classes)}
        pictures = [name for name in pictures if _class_of(name) in numbers]
        labels = np.array([numbers[_class_of(name)] for name in pictures], np.int32)
        counts = np.bincount(labels, minlength=len(classes))
        if empty := [name for name, count in zip(classes, counts, strict=True) if not count]:
            raise BadInput(
                f"{self.root} has no pictures of {len(empty)} of its classes: {first_five(empty)}; remove these "
                "folders, or name the right ones with `classes`"
            )
        return ClassFoldersReader(Names(pictures), self.root, classes, labels)


@dataclass(frozen=True)
class ClassFoldersReader(ListedNames):
    """classes: names in the order of the labels; labels: int32, one a picture."""

    root: str
    classes: tuple[str, ...]
    labels: np.ndarray

    def __getitem__(self, index: int) -> Sample:
        name = self.pictures[index]
        return unlabelled(images.read_image(Path(self.root, name)), name, int(self.labels[index]))

    def digest(self) -> str:
        """Of the pictures' names and of the order of the classes."""
        return hashlib.sha256("\n".join((self.pictures.digest(), *self.classes)).encode()).hexdigest()


def _class_of(name: str) -> str:
    return name.partition("/")[0]
