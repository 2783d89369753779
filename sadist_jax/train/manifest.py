"""The manifest of a folder: every file in it with size and SHA-256, so that damage on disk is seen before it is read.

Orbax restores a flipped bit without complaint. Writing a manifest and comparing with it cost one read of the files
each. What is damaged between the device and the first of these reads is not seen.
"""

import errno
import hashlib
import json
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from sadist_jax.weights.files import replacing

NAME = "manifest.json"
_AT_ONCE = 4  # files; hashing lets other threads run
_PASSING = {errno.EIO, errno.ESTALE, errno.EAGAIN, errno.ETIMEDOUT, errno.EINTR}  # of a network drive that hiccups
_TRIES = 4
T = TypeVar("T")


def write(folder: Path) -> None:
    """Digest all files in the folders inside `folder`, and list them in its manifest.

    Files that lie directly in `folder` are left out: Orbax notes there when it wrote, after the manifest, and nothing
    that is restored comes from them.
    """
    names = sorted(path.relative_to(folder).as_posix() for path in folder.glob("*/**/*") if path.is_file())
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        digests = list(threads.map(partial(_digest, folder), names))
    files = {name: [(folder / name).stat().st_size, digest] for name, digest in zip(names, digests, strict=True)}
    with replacing(folder / NAME) as file:
        file.write(sealed(files))


def problem(folder: Path, share: int = 0, of: int = 1) -> str | None:
    """What is wrong with `folder`, in words; None if it is as its manifest says. It may hold files that are not listed.

    Several hosts that see the same folder share the reading: each looks at all names and sizes, and the host `share`
    digests every file whose rank by size is `share` modulo `of`.
    """
    try:
        files = unsealed(_persist((folder / NAME).read_bytes))
    except (FileNotFoundError, NotADirectoryError):
        return f"it has no {NAME}: it was never finished, or is no checkpoint of this version"
    except OSError as error:
        return _unreadable(NAME, error)
    if files is None:
        return f"{NAME} is damaged"
    by_size = sorted(files, key=lambda name: (-files[name][0], name))
    checks = [partial(_size_problem, folder, files, name) for name in by_size]
    checks += [partial(_digest_problem, folder, files, name) for name in by_size[share::of]]
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        return next(filter(None, threads.map(lambda check: check(), checks)), None)


def sealed(value: Mapping[str, Any]) -> bytes:
    """JSON with a digest of its own."""
    value = json.loads(json.dumps(value))  # as it will be read: keys are text
    return json.dumps({"digest": _digest_of(value), "value": value}, indent=1).encode()


def unsealed(content: bytes) -> dict[str, Any] | None:
    """What `sealed` was given; None where the bytes are not as it wrote them."""
    try:
        found = json.loads(content)
        return found["value"] if found["digest"] == _digest_of(found["value"]) else None
    except (ValueError, KeyError, TypeError):
        return None


def _digest_of(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _size_problem(folder: Path, files: Mapping[str, Any], name: str) -> str | None:
    try:
        size = _persist((folder / name).stat).st_size
    except FileNotFoundError:
        return f"{name} is missing"
    except OSError as error:
        return _unreadable(name, error)
    return None if size == files[name][0] else f"{name} has {size} bytes, of {files[name][0]} that were written"


def _digest_problem(folder: Path, files: Mapping[str, Any], name: str) -> str | None:
    try:
        found = _persist(partial(_digest, folder, name))
        return None if found == files[name][1] else f"{name} has changed since it was written"
    except OSError as error:
        return _unreadable(name, error)


def _digest(folder: Path, name: str) -> str:
    with (folder / name).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _persist(read: Callable[[], T]) -> T:
    """Try again where a drive has hiccups: a good checkpoint would be moved away, and its steps done twice."""
    for number in range(_TRIES - 1):
        try:
            return read()
        except OSError as error:
            if error.errno not in _PASSING:
                raise
            time.sleep(0.5 * 4**number)
    return read()


def _unreadable(name: str, error: OSError) -> str:
    return f"{name} cannot be read ({error.strerror or error})"
