"""Lists of files that stay small: one array of bytes, not millions of Python strings."""

import hashlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from sadist_jax.errors import BadInput


class Blobs:
    """Immutable list of byte strings in one buffer, so that the names of SA-1B reach a worker in one copy."""

    def __init__(self, items: Iterable[bytes]):
        items = list(items)
        self.data = b"".join(items)
        self.ends = np.cumsum([len(item) for item in items], dtype=np.int64)

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, i: int) -> bytes:
        if not 0 <= i < len(self):
            raise IndexError(i)
        return self.data[self.ends[i - 1] if i else 0 : self.ends[i]]

    def digest(self) -> str:
        """sha256 over the items and their lengths."""
        digest = hashlib.sha256(self.data)
        digest.update(self.ends.tobytes())
        return digest.hexdigest()


class Names:
    """Immutable list of file names in one buffer. Names that are not UTF-8 survive (os.fsencode)."""

    def __init__(self, names: Iterable[str]):
        self.blobs = Blobs(os.fsencode(name) for name in names)

    def __len__(self) -> int:
        return len(self.blobs)

    def __getitem__(self, i: int) -> str:
        return os.fsdecode(self.blobs[i])

    def digest(self) -> str:
        """As `Blobs.digest`."""
        return self.blobs.digest()


def walk(root: str, endings: Iterable[str]) -> list[str]:
    """Files below `root` with one of the endings (any case), relative, forward slashes, sorted by their bytes.

    Follows links to folders once each; skips names that begin with a dot.
    """
    if not Path(root).is_dir():
        raise BadInput(f"{root} is not a folder; give the folder that holds the data")
    endings = tuple(ending.lower() for ending in endings)
    found, seen = [], set()
    for folder, below, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        below[:] = [] if real in seen else [name for name in below if not name.startswith(".")]
        if real in seen:
            continue
        seen.add(real)
        start = os.path.relpath(folder, root)
        prefix = "" if start == "." else start.replace(os.sep, "/") + "/"
        found += [prefix + f for f in files if f.lower().endswith(endings) and not f.startswith(".")]
    return sorted(found, key=os.fsencode)


def stem(name: str) -> str:
    """Relative name without its last ending: what an image and its annotation share."""
    return os.path.splitext(name)[0]


def pair(
    pictures_root: str, picture_endings: Iterable[str], maps_root: str, map_endings: Iterable[str], suffix: str
) -> tuple[list[str], list[str]]:
    """(pictures, maps) with equal relative names but for the endings, and `suffix` before the map's.

    Pictures without a map are left out. Raises BadInput for maps without a picture, names that several pictures have,
    and when there is nothing.
    """
    pictures: dict[str, str] = {}
    for name in walk(pictures_root, picture_endings):
        if stem(name) in pictures:
            raise BadInput(f"{pictures_root} has both {pictures[stem(name)]} and {name}; rename or remove one")
        pictures[stem(name)] = name
    maps = [name for name in walk(maps_root, map_endings) if stem(name).endswith(suffix)]
    if not maps:
        looked = f"files NAME{suffix} with one of {' '.join(map_endings)}"
        raise BadInput(f"no masks found in {maps_root} or below it; looked for {looked}")
    wanted = [stem(name).removesuffix(suffix) for name in maps]
    lonely = [name for name, key in zip(maps, wanted, strict=True) if key not in pictures]
    if lonely:
        raise BadInput(
            f"{len(lonely)} of {len(maps)} masks in {maps_root} have no picture of their name in {pictures_root}: "
            f"{first_five(lonely)}; check the folders, and the suffix ({suffix!r})"
        )
    return [pictures[key] for key in wanted], maps


def refuse_missing(root: str, names: Iterable[str], listed_in: str) -> None:
    """Raises BadInput, with the count and the first five, when files that `listed_in` lists are not below `root`.

    One directory listing per folder instead of one question per file, which on a network drive takes minutes.
    """
    if not Path(root).is_dir():
        raise BadInput(f"{root} is not a folder; give the folder that the file names in {listed_in} start from")
    listings: dict[str, set[str]] = {}
    missing, total = [], 0
    for name in names:
        folder, _, file = name.rpartition("/")
        if folder not in listings:
            here = Path(root, folder)
            listings[folder] = set(os.listdir(here)) if here.is_dir() else set()
        total += 1
        if file not in listings[folder]:
            missing.append(name)
    if missing:
        raise BadInput(
            f"{len(missing)} of {total} files that {listed_in} lists are not in {root}: {first_five(missing)}; "
            "check the folder or fetch the missing files"
        )


def printable(text: str) -> str:
    """With a mark for what is not UTF-8: names of files need not be, terminals and text files must."""
    return text.encode("utf-8", "replace").decode()


def first_five(names: Sequence[str]) -> str:
    """The first five, and a mark when there are more."""
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
