"""A folder of pictures without masks."""

from dataclasses import dataclass
from pathlib import Path

from sadist_jax.data import images
from sadist_jax.data.listed import ListedNames
from sadist_jax.data.names import Names, walk
from sadist_jax.data.sample import Sample, unlabelled
from sadist_jax.errors import BadInput


@dataclass(frozen=True)
class Folder:
    """All pictures below `root`, sorted by name: .jpg .jpeg .png .webp .bmp .tif .tiff .gif .ppm .pgm in any case.

    Subfolders count, links to folders are followed, names that begin with a dot are skipped. Right for SAMI on
    ImageNet, SA-1B or any other photos: annotation files are not looked at.
    """

    root: str

    def open(self) -> "FolderReader":
        names = walk(self.root, images.ENDINGS)
        if not names:
            raise BadInput(f"no pictures found in {self.root} or below it; looked for {' '.join(images.ENDINGS)}")
        return FolderReader(Names(names), self.root)


@dataclass(frozen=True)
class FolderReader(ListedNames):
    root: str

    def __getitem__(self, index: int) -> Sample:
        name = self.pictures[index]
        return unlabelled(images.read_image(Path(self.root, name)), name)
