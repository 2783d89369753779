"""Clicks, boxes and logits as the command line has them -> prompts."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from sadist_jax.codecs.prompts import Prompt, check_box, check_points
from sadist_jax.errors import BadInput


def read_prompts(
    photo: Path, hw: tuple[int, int], points: Sequence[str], boxes: Sequence[str], mask: Path | None
) -> list[Prompt]:
    """The prompts for a photo of (height, width) `hw`: one of all that is given, or one for each of several boxes.

    Raises:
      BadInput: there is none, it is not made of numbers, or it lies outside the photo.
    """
    if not (points or boxes or mask):
        raise BadInput("there is no prompt; click with --point X,Y or draw a box with --box X0,Y0,X1,Y1")
    drawn = [_box(photo, text, hw) for text in boxes]
    if len(drawn) > 1:
        if points or mask:
            raise BadInput("several --box are several objects, so no --point or --mask goes with them; leave it out")
        return [Prompt(box=box) for box in drawn]
    xy = labels = None
    if points:
        clicks = [_numbers(text, "--point", "X,Y or X,Y,0", (2, 3)) for text in points]
        xy = _within(photo, "--point", check_points, np.array([click[:2] for click in clicks]), hw)
        labels = np.array([click[2] if len(click) == 3 else 1 for click in clicks])
        if not np.isin(labels, (0, 1)).all():
            raise BadInput("the third number of --point is 1 (the object) or 0 (not the object)")
    return [Prompt(xy, labels, drawn[0] if drawn else None, None if mask is None else _read_logits(mask))]


def _box(photo: Path, text: str, hw: tuple[int, int]) -> np.ndarray:
    return _within(photo, "--box", check_box, np.array(_numbers(text, "--box", "X0,Y0,X1,Y1", (4,))), hw)


def _within(
    photo: Path, option: str, check: Callable[..., np.ndarray], values: np.ndarray, hw: tuple[int, int]
) -> np.ndarray:
    try:
        return check(values, hw)
    except BadInput as error:
        raise BadInput(f"{option} of {photo}: {error}; choose pixels inside it") from None


def _numbers(text: str, option: str, form: str, lengths: tuple[int, ...]) -> list[float]:
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) not in lengths:
        raise BadInput(f"{option} {text!r} must be {form}: numbers with commas between them and no spaces")
    return numbers


def _read_logits(path: Path) -> np.ndarray:
    try:
        logits = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise BadInput(f"there is no file {path}; --mask reads what --logits-out has written") from None
    except (OSError, ValueError, EOFError):
        raise BadInput(f"{path} is no .npy file of numbers; --mask reads what --logits-out has written") from None
    if not isinstance(logits, np.ndarray) or logits.dtype.kind not in "fiu" or not np.isfinite(logits).all():
        raise BadInput(f"{path} holds no finite numbers; --mask reads what --logits-out has written")
    return logits.astype(np.float32)
