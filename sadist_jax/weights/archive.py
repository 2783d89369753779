"""A zip file of stored records, as PyTorch writes it; nothing of it is believed before it has been checked."""

import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

import numpy as np

from sadist_jax.errors import BadInput

_CHUNK = 1 << 20  # bytes read at a time; more is slower, because every piece then gets fresh pages
_LOCAL_HEADER = 30  # bytes before a member's name
_ENCRYPTED = 1  # flag bit

# All that zipfile raises on bytes that are not a zip file, besides BadZipFile (which covers a wrong CRC-32).
_DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, struct.error),
    *(EOFError, ValueError, NotImplementedError, OverflowError, IndexError),
)


class Archive:
    """An open zip file. `where` names it in messages; a damaged one raises BadInput from every method."""

    def __init__(self, file: BinaryIO, where: str):
        self.where = where
        with self._damage():
            self._zip = zipfile.ZipFile(file)
        infos = self._zip.infolist()
        self.members = {info.filename: info for info in infos if not info.is_dir()}
        if len(self.members) != sum(not info.is_dir() for info in infos):
            self._refuse("two of its members have the same name")
        self._refuse_overlap(infos, file.seek(0, 2))

    def size(self, name: str) -> int:
        return self.members[name].file_size

    def read(self, name: str, limit: int) -> bytes:
        """A small record, at most `limit` bytes."""
        if self.size(name) > limit:
            self._refuse(f"its record {_shown(name)} claims {self.size(name)} bytes (at most {limit} make sense)")
        return self.read_array(name).tobytes()

    def read_array(self, name: str) -> np.ndarray:
        """A stored record as uint8 (size,), read straight into its own memory; its CRC-32 is verified."""
        info = self.members[name]
        if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
            raise BadInput(
                f"{self.where} holds the record {_shown(name)} compressed, which PyTorch never does; unzip the file "
                "and use the .pth inside, or download the original again"
            )
        # The size is safe to allocate: stored members do not overlap, so it is not larger than the file.
        content = np.empty(info.file_size, np.uint8)
        at = 0
        for chunk in self.chunks(name):
            content[at : at + len(chunk)] = np.frombuffer(chunk, np.uint8)
            at += len(chunk)
        if at != info.file_size:
            self._refuse(f"its record {_shown(name)} ends too early")
        return content

    def chunks(self, name: str) -> Iterator[bytes]:
        """A record, inflated where it was deflated, piece by piece; ends with an error where its CRC-32 is wrong."""
        with self._damage():
            info = self.members[name]
            if info.flag_bits & _ENCRYPTED:
                raise BadInput(f"{self.where} is encrypted; unzip it first")
            with self._zip.open(info) as record:
                while chunk := record.read(_CHUNK):
                    yield chunk

    def _refuse_overlap(self, infos: list[zipfile.ZipInfo], end: int) -> None:
        """Members that share bytes are how a small file claims to hold a huge one."""
        for info in sorted(infos, key=lambda i: i.header_offset, reverse=True):
            if info.header_offset < 0 or info.header_offset + _LOCAL_HEADER + info.compress_size > end:
                self._refuse(f"its member {_shown(info.filename)} overlaps another or the end of the file")
            end = info.header_offset

    def _refuse(self, reason: str) -> None:
        raise BadInput(
            f"{self.where} is truncated or damaged ({reason}); download or copy it again and compare its size or "
            "checksum with the source"
        )

    @contextmanager
    def _damage(self) -> Iterator[None]:
        try:
            yield
        except BadInput:  # a ValueError too, and already a sentence
            raise
        except _DAMAGE as error:
            self._refuse(str(error) or type(error).__name__)


def _shown(name: str) -> str:
    return ascii(name[:80])
