"""Label many pictures: a file for each, whole or not there, so that a run goes on where it was.

Process i of n takes every n-th picture. What has its file is left alone; a picture that cannot be read is listed in
quarantine.jsonl and left out. `.job.json` says what the folder is of; another job is refused.
"""

import io
import json
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
from PIL import Image

from sadist_jax.codecs import rle
from sadist_jax.data.coco_pictures import CocoPicturesReader
from sadist_jax.data.names import first_five, printable, stem
from sadist_jax.data.quarantine import Quarantine
from sadist_jax.data.sample import Reader, Unreadable
from sadist_jax.errors import BadInput
from sadist_jax.predict.automatic_prompts import prompts_of
from sadist_jax.predict.sa1b import annotation_file, described, label_map
from sadist_jax.weights.files import replacing, write_once

Form = Literal["sa1b", "coco", "maps", "prompts"]
JOB, QUARANTINE = ".job.json", "quarantine.jsonl"
MERGED = {"coco": "instances.json", "prompts": "prompts.json"}  # one file of all pictures
PARTS = "pictures"  # folder of its parts
OBJECT = {"id": 1, "name": "object"}  # the category of masks that have none
Records = Sequence[Mapping[str, Any]]
Generate = Callable[[int, np.ndarray], Records]  # index, uint8 RGB (H, W, 3) -> records


@dataclass(frozen=True)
class Labelling:
    """What is labelled, and where to.

    reader: the pictures; of a COCO file, its ids and all else that it says of an image go into the labels.
    form: 'sa1b': NAME.json for each picture; 'maps': NAME.png, 16 bits, i for the i-th mask; 'coco': one
      instances.json, put together when all pictures are done; 'prompts': one prompts.json likewise, of records of
      everything mode, for data/weak_frames.py.
    about: what the labels depend on beside the pictures: weights, options. Plain values.
    max_bad_fraction: of the pictures that may be unreadable.
    categories: of records that are annotations of a COCO file: their id, category_id, iscrowd and bbox stay. None:
      records of everything mode; in a COCO file they are numbered through, objects of one category.
    """

    reader: Reader
    folder: Path
    form: Form
    about: Mapping[str, Any]
    max_bad_fraction: float = 0.1
    categories: Sequence[Mapping[str, Any]] | None = None

    def file(self, index: int) -> Path:
        """What a picture's masks are written to."""
        name = PurePosixPath(self.reader.name(index))
        ending, folder = (".png" if self.form == "maps" else ".json"), self.folder
        return (folder / PARTS if self.form in MERGED else folder) / name.with_suffix(ending)

    def run(
        self, generate: Generate, process: int = 0, processes: int = 1, say: Callable[[str], None] = print
    ) -> dict[str, int]:
        """Label this process's share; returns how many pictures were done, there already, and bad.

        Raises BadInput: the folder is of another job, two pictures would share a file, too many cannot be read.
        """
        self._agree()
        bad, quarantine = self._bad(), Quarantine(str(self.folder / QUARANTINE), self.max_bad_fraction)
        if len(bad) > self.max_bad_fraction * len(self.reader):
            raise BadInput(
                f"{len(bad)} of {len(self.reader)} pictures are listed in {quarantine.path}, more than "
                f"max_bad_fraction = {self.max_bad_fraction:g} allows; repair them and delete that list, or raise it"
            )
        share = range(process, len(self.reader), processes)
        known = [i for i in share if self.reader.name(i) in bad]
        left = [i for i in share if self.reader.name(i) not in bad and not self.file(i).exists()]
        counts, begin = {"done": 0, "there": len(share) - len(left) - len(known), "bad": len(known)}, time.monotonic()
        for number, index in enumerate(left, 1):
            try:
                image = self.reader[index].image
            except Unreadable as error:
                self._set_aside(quarantine, index, error)
                counts["bad"] += 1
                continue
            records = generate(index, image)
            _write(self.file(index), self._content(index, image.shape[:2], records))
            counts["done"] += 1
            pace = (time.monotonic() - begin) / number
            remaining, name = _clock(pace * (len(left) - number)), printable(self.reader.name(index))
            say(f"{number}/{len(left)}  {name}: {len(records)} masks  {remaining} left")
        if self.form in MERGED:
            self._merge(self.folder / MERGED[self.form], say)
        return counts

    def _agree(self) -> None:
        names = [self.reader.name(i) for i in range(len(self.reader))]
        often = Counter(map(stem, names))
        if double := [name for name in names if often[stem(name)] > 1]:
            raise BadInput(f"pictures that differ only in their ending would share a file; rename {first_five(double)}")
        job = self.folder / JOB
        if not job.exists():
            there = self._there()
            if there and not job.exists():  # or another process has just begun
                raise BadInput(f"{there} is there already, and by no run of this job; choose another folder")
        wanted = json.dumps({"form": self.form, "data": self.reader.digest(), **self.about}, indent=1, sort_keys=True)
        wanted += "\n"
        try:
            found = write_once(job, wanted)
        except UnicodeDecodeError:
            found = ""
        if found == wanted:
            return
        others = (path for path in self.folder.rglob("*") if path.is_file() and path.name not in (JOB, QUARANTINE))
        there = self._there() or next(others, None)
        if there is None:  # of a run that labelled nothing; or a kill has cut it short, where there are no hard links
            _write(job, wanted.encode())
        elif not _is_json(found):
            raise BadInput(f"{job} is damaged, so nobody knows what {there} is of; choose another folder")
        else:
            raise BadInput(
                f"{self.folder} holds the labels of another job, with other pictures, weights or options (see {JOB} "
                "in it); choose another folder"
            )

    def _there(self) -> Path | None:
        """A file that the job would write, when there is one."""
        merged = [self.folder / MERGED[self.form]] if self.form in MERGED else []
        files = (*merged, *(self.file(i) for i in range(len(self.reader))))
        return next((path for path in files if path.exists()), None)

    def _bad(self) -> set[str]:
        return Quarantine(str(self.folder / QUARANTINE)).samples()

    def _set_aside(self, quarantine: Quarantine, index: int, error: Unreadable) -> None:
        try:
            quarantine.add(self.reader.name(index), error, len(self.reader))
        except OSError as fault:
            reason = fault.strerror or fault
            raise BadInput(f"{quarantine.path} cannot be written ({reason}); free space or choose another") from None

    def _content(self, index: int, hw: tuple[int, int], records: Records) -> bytes:
        if self.form == "maps":
            picture = io.BytesIO()
            Image.fromarray(label_map(hw, records)).save(picture, "png")
            return picture.getvalue()
        if self.form == "prompts":
            return json.dumps(prompts_of(records)).encode()
        return json.dumps(annotation_file(self._image(index, hw), records)).encode()

    def _image(self, index: int, hw: tuple[int, int]) -> dict[str, Any]:
        """What SA-1B's file says of a picture."""
        if not isinstance(self.reader, CocoPicturesReader):
            return described(self.reader.name(index), hw, image_id=index + 1)
        row = self.reader.row(index)
        return {"image_id": row.pop("id"), **row}

    def _merge(self, merged: Path, say: Callable[[str], None]) -> None:
        """Put the parts of all pictures together, once they are there; every process that sees so writes the same."""
        bad = self._bad()
        kept = [i for i in range(len(self.reader)) if self.reader.name(i) not in bad]
        parts = [self.file(i) for i in kept]
        if missing := [path for path in parts if not path.exists()]:
            say(f"{merged.name} is written when all pictures are done; {len(missing)} are missing")
            return
        contents = [_read(path) for path in parts]
        if self.form == "prompts":
            whole = dict(zip(map(self.reader.name, kept), contents, strict=True))
            count = f"{sum(map(len, contents))} prompts"
        else:
            whole = self._coco(contents)
            count = f"{len(whole['annotations'])} masks"
        _write(merged, json.dumps(whole).encode())
        say(f"{printable(str(merged))}: {len(parts)} pictures, {count}")

    def _coco(self, contents: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """One COCO file of those of all pictures."""
        images, annotations = [], []
        for content in contents:
            images.append({("id" if key == "image_id" else key): x for key, x in content["image"].items()})
            for annotation in content["annotations"]:
                annotation["image_id"] = content["image"]["image_id"]
                annotations.append(annotation if self.categories is not None else _as_object(annotation))
        if self.categories is None:
            annotations = [{**annotation, "id": i} for i, annotation in enumerate(annotations, 1)]
        categories = [OBJECT] if self.categories is None else list(self.categories)
        return {"images": images, "annotations": annotations, "categories": categories}


def _as_object(annotation: Mapping[str, Any]) -> dict[str, Any]:
    """A record of everything mode as COCO has annotations; COCO's boxes are a pixel wider than SAM's."""
    box = rle.bbox(annotation["segmentation"])
    return {**annotation, "category_id": OBJECT["id"], "iscrowd": 0, "bbox": box}


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BadInput(f"{path} is damaged ({error}); delete it and run the same again") from None


def _write(path: Path, content: bytes) -> None:
    """Whole or not at all."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"{path} cannot be written ({error.strerror or error}); choose another place") from None
    with replacing(path) as file:
        file.write(content)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"
