"""A teacher's features on disk: what `sadist features` writes, and a source whose samples bring them along.

A folder with `manifest.json` and shards `features-00003-of-00128-4f6a2c81.array_record`, where the last part is the
beginning of the manifest's digest, so that shards of another cache are never taken for this one's. Shard s holds the
samples s * per_shard ... of the source in its own order, one record each: the picture's signature, then bfloat16,
little-endian, row-major, of the manifest's shape; an empty record stands for a picture that could not be read.
ArrayRecord's checksums find flipped bits, the signature a file that has become another picture.
"""

import functools
import hashlib
import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from sadist_jax.data.sample import Features, Reader, Sample, Unreadable
from sadist_jax.errors import BadInput

MANIFEST, FORMAT = "manifest.json", 1
TILES = 4  # of a signature, down and across
SIGNATURE = 8 + 3 * TILES**2  # bytes: height and width, and the mean colour of each tile
NEAR = 4  # of 255: decoders differ by a little in every pixel, hardly in a mean


@dataclass(frozen=True)
class Manifest:
    """What a cache was made from, and how it is cut.

    teacher: encoder, feature point and other fields of the teacher, as JSON.
    weights: digest of the teacher's weights (weights.digest).
    view: what the teacher saw of a sample, as JSON.
    data: digest of the source; samples: their number.
    shape: of a record, (h, w, c), or (4, h, w, c) of the four weak views.
    """

    teacher: str
    weights: str
    view: str
    data: str
    samples: int
    shape: tuple[int, ...]
    shards: int
    format: int = FORMAT

    @property
    def per_shard(self) -> int:
        return math.ceil(self.samples / self.shards)

    @property
    def nbytes(self) -> int:
        """Of a record."""
        return SIGNATURE + 2 * math.prod(self.shape)

    def part(self, shard: int) -> range:
        """The samples of a shard."""
        first = shard * self.per_shard
        return range(min(first, self.samples), min(first + self.per_shard, self.samples))

    def file(self, shard: int) -> str:
        return f"features-{shard:05}-of-{self.shards:05}-{self.digest[:8]}.array_record"

    def text(self) -> str:
        return json.dumps(asdict(self), indent=2) + "\n"

    @property
    def digest(self) -> str:
        """64 hexadecimal digits: of teacher, view, data and cut."""
        return hashlib.sha256(self.text().encode()).hexdigest()


def read_manifest(folder: Path) -> Manifest:
    """Raises BadInput where there is none, or none that this version reads."""
    path = folder / MANIFEST
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        manifest = Manifest(**{**fields, "shape": tuple(fields["shape"])})
    except FileNotFoundError:
        raise BadInput(f"there is no cache of features in {folder}; make it with `sadist features`") from None
    except (ValueError, TypeError, KeyError) as error:
        raise BadInput(f"{path} is damaged ({error}); make the cache again with `sadist features`") from None
    if manifest.format != FORMAT:
        raise BadInput(f"{path} is of format {manifest.format}, this version reads {FORMAT}; make the cache again")
    return manifest


def signature(image: np.ndarray) -> bytes:
    """What a uint8 picture (h, w, 3) is known by again: its size and the mean colours of its tiles."""
    height, width = image.shape[:2]
    rows, columns = (np.arange(TILES) * side // TILES for side in (height, width))
    sums = np.add.reduceat(np.add.reduceat(image.astype(np.uint32), rows, 0), columns, 1)
    pixels = np.outer(np.maximum(np.diff(rows, append=height), 1), np.maximum(np.diff(columns, append=width), 1))
    return np.array([height, width], "<u4").tobytes() + (sums // pixels[..., None]).astype(np.uint8).tobytes()


def same_picture(a: bytes, b: bytes) -> bool:
    """Whether two signatures are of one picture."""
    colours = (np.frombuffer(x[8:], np.uint8).astype(int) for x in (a, b))
    return a[:8] == b[:8] and int(np.abs(np.subtract(*colours)).max()) <= NEAR


def differences(found: Manifest, wanted: Manifest) -> str:
    """What two manifests disagree in, a line each; empty when in nothing."""
    a, b = asdict(found), asdict(wanted)
    return "\n".join(f"{name}: the cache has {a[name]}, this needs {b[name]}" for name in a if a[name] != b[name])


@dataclass(frozen=True)
class WithFeatures:
    """`source`, whose samples bring the features of the cache in `cache` along.

    digest: which cache that must be, as `sadist features` has printed it: it depends on teacher, view and data.
    """

    source: Any
    cache: str
    digest: str

    def open(self) -> "WithFeaturesReader":
        reader, folder = self.source.open(), Path(self.cache)
        manifest = read_manifest(folder)
        if (manifest.data, manifest.samples) != (reader.digest(), len(reader)):
            raise BadInput(
                f"the features in {folder} are of other data ({manifest.samples} samples, this has {len(reader)}; or "
                "other files): name the source that they were made from, or make them again with `sadist features`"
            )
        if self.digest != manifest.digest:
            raise BadInput(
                f"the features in {folder} have the digest {manifest.digest}, and {self.digest or 'none'} is wanted: "
                "name that digest if its teacher and view are meant (see manifest.json), or another cache"
            )
        missing = [manifest.file(s) for s in range(manifest.shards) if not (folder / manifest.file(s)).exists()]
        if missing:
            raise BadInput(
                f"{folder} lacks {len(missing)} of {manifest.shards} shards ({missing[0]}, ...): run the same "
                "`sadist features` again, it goes on where it stopped"
            )
        for shard in range(manifest.shards):
            check_shard(folder / manifest.file(shard), len(manifest.part(shard)))
        return WithFeaturesReader(reader, str(folder), manifest)


@dataclass(frozen=True)
class WithFeaturesReader:
    source: Reader
    folder: str
    manifest: Manifest

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Sample:
        """Raises Unreadable where the features are of another picture, too."""
        sample, (path, record) = self.source[index], self._record(index)
        if not same_picture(record[:SIGNATURE], signature(sample.image)):
            raise Unreadable(
                str(path), f"{sample.name} is another picture than the one that {path} was made of; delete that "
                "shard and run the same `sadist features` again"
            )  # fmt: skip
        return sample._replace(features=Features(self._values(record), self.manifest.view))

    def name(self, index: int) -> str:
        return self.source.name(index)

    def digest(self) -> str:
        """Of the data and of the cache: a run goes on only with the same of both."""
        return f"{self.source.digest()}-{self.manifest.digest}"

    def features(self, index: int) -> np.ndarray:
        """bfloat16, of the manifest's shape. Raises Unreadable for an empty record, BadInput for a damaged shard."""
        return self._values(self._record(index)[1])

    def _record(self, index: int) -> tuple[Path, bytes]:
        """(its shard, what is in it)."""
        shard, position = divmod(index, self.manifest.per_shard)
        path = Path(self.folder, self.manifest.file(shard))
        record = _record(path, position, len(self.manifest.part(shard)))
        if not record:
            raise Unreadable(
                str(path), f"{self.source.name(index)} could not be read when {path} was made; if it can be now, "
                "delete that shard and run the same `sadist features` again"
            )  # fmt: skip
        if len(record) != self.manifest.nbytes:
            raise BadInput(
                f"{path} has {len(record)} bytes for a sample, not {self.manifest.nbytes}; delete it and make it again "
                "with `sadist features`"
            )
        return path, record

    def _values(self, record: bytes) -> np.ndarray:
        bits = np.frombuffer(record, "<u2", offset=SIGNATURE).astype(np.uint16, copy=False)  # whatever this machine is
        return bits.view(ml_dtypes.bfloat16).reshape(self.manifest.shape)


def check_shard(path: Path, expected: int) -> None:
    """Raises BadInput where a shard is truncated, damaged at its ends, or holds another number of records."""
    found = len(_opened(str(path)))
    if found != expected:
        raise BadInput(
            f"{path} holds {found} samples, not {expected}; delete it and make it again with `sadist features`"
        )


def _record(path: Path, position: int, length: int) -> bytes:
    try:
        return _kept_open(f"{path}[0:{length}]")[position]  # with its length it need not be opened to be counted
    except (ValueError, IndexError, RuntimeError) as error:
        raise _damaged(path, error) from None


def _opened(path: str) -> Any:
    from array_record.python.array_record_data_source import ArrayRecordDataSource

    try:
        return ArrayRecordDataSource(path)
    except (ValueError, RuntimeError, OSError) as error:
        raise _damaged(Path(path), error) from None


_kept_open = functools.lru_cache(512)(_opened)  # each holds a file open, and a process may have a thousand


def _damaged(path: Path, error: Exception) -> BadInput:
    reason = str(error).partition("\n")[0]
    return BadInput(f"{path} is damaged or truncated ({reason}); delete it and make it again with `sadist features`")
