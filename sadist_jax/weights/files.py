"""Files on disk: one that must be there to be read, one that appears whole or not at all."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader, BufferedWriter
from pathlib import Path

from sadist_jax.errors import BadInput

PathLike = str | os.PathLike[str]


@contextmanager
def reading(path: PathLike) -> Iterator[BufferedReader]:
    """Open a non-empty regular file for reading; every failure of the file system is one BadInput that names it."""
    path = Path(path)
    try:
        if path.is_dir():
            raise BadInput(f"{path} is a directory; name the weights file inside it")
        if not path.exists():
            raise BadInput(f"{path} does not exist; check the path (the current directory is {Path.cwd()})")
        if not path.is_file():
            raise BadInput(f"{path} is not a regular file; copy it to disk first")
        if path.stat().st_size == 0:
            raise BadInput(f"{path} is empty (0 bytes); download or copy it again")
        with path.open("rb") as file:
            yield file
    except OSError as error:
        raise BadInput(f"{path} cannot be read ({_reason(error)}); check the path and its permissions") from None


@contextmanager
def replacing(path: PathLike) -> Iterator[BufferedWriter]:
    """Open a new file that takes the place of `path` when the block ends well; otherwise `path` stays as it was.

    The bytes go to a hidden file in the same directory, reach the disk (fsync), and are then renamed over `path`, so a
    reader, a full disk or a kill in between never leaves half a file under the final name.
    """
    path = Path(path)
    if path.is_dir():
        raise BadInput(f"{path} is a directory; name the file to write")
    if not path.parent.is_dir():
        raise BadInput(f"{path} cannot be written because {path.parent} is not a directory; create it first")
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise BadInput(f"{path} cannot be written ({_reason(error)}); free space or choose another place") from None
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_once(path: Path, content: str) -> str:
    """Write a file unless there is one; returns what it then holds: of several writers the first one's.

    Raises BadInput where it cannot be written.
    """
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            with temporary.open("x", encoding="utf-8") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            with suppress(FileExistsError):
                try:
                    os.link(temporary, path)
                except FileExistsError:
                    raise
                except OSError:  # a file system without hard links, as those over object stores
                    with path.open("x", encoding="utf-8") as file:
                        file.write(content)
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise BadInput(f"{path} cannot be written ({_reason(error)}); free space or choose another place") from None
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
