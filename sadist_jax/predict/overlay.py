"""Pictures for people: masks, clicks and boxes on a photo, and a sheet of many pictures with captions."""

import itertools
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from sadist_jax.codecs.prompts import Prompt

Colour = tuple[int, int, int]

BLUE: Colour = (30, 136, 229)
PALETTE: tuple[Colour, ...] = (BLUE, (240, 140, 0), (0, 158, 115), (204, 90, 170), (213, 94, 0), (86, 180, 233))
POSITIVE: Colour = (0, 160, 70)
NEGATIVE: Colour = (214, 39, 40)
_WHITE, _INK, _GREY = (255, 255, 255), (28, 30, 34), (96, 100, 108)
_SMOOTH = 4  # markers are drawn this much larger and shrunk


def overlay(
    image: np.ndarray, mask: np.ndarray, colour: Colour = BLUE, alpha: float = 0.45, line: int = 2
) -> np.ndarray:
    """Tint the mask and draw its outline.

    Args:
      image: (H, W, 3) uint8 RGB.
      mask: (H, W) bool, in the image's frame.
      colour: RGB in 0..255.
      alpha: opacity of the tint, 0 (photo only) to 1 (colour only).
      line: width of the outline in pixels, inside the mask; 0 draws none.

    Returns: a new (H, W, 3) uint8 picture.

    >>> overlay(np.zeros((2, 2, 3), np.uint8), np.eye(2, dtype=bool), (200, 100, 0), alpha=0.5, line=0)[..., 0].tolist()
    [[100, 0], [0, 100]]
    """
    if mask.shape != image.shape[:2]:
        raise ValueError(f"the mask is {mask.shape}, the image {image.shape[:2]}")
    mask = np.asarray(mask, bool)
    picture = image.copy()
    tint = (1 - alpha) * image[mask] + alpha * np.asarray(colour)
    picture[mask] = np.rint(tint).astype(np.uint8)
    if line:
        picture[outline(mask, line)] = colour
    return picture


def overlay_labels(image: np.ndarray, labels: np.ndarray, alpha: float = 0.45) -> np.ndarray:
    """Tint each label of a map (H, W), 0 nowhere, in a colour of the palette, with its outline; a new uint8 picture.

    >>> overlay_labels(np.zeros((1, 2, 3), np.uint8), np.array([[0, 1]]))[0, 0].tolist()
    [0, 0, 0]
    """
    colours = np.array(PALETTE, float)[(labels - 1) % len(PALETTE)]
    edge = np.zeros(labels.shape, bool)
    edge[:-1] |= labels[:-1] != labels[1:]
    edge[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    opacity = np.where(edge, 1.0, alpha) * (labels > 0)
    return np.rint((1 - opacity[..., None]) * image + opacity[..., None] * colours).astype(np.uint8)


def outline(mask: np.ndarray, width: int = 1) -> np.ndarray:
    """Pixels of the mask within `width` (chessboard distance) of a pixel outside it; (H, W) bool.

    The image's border does not count as outside, so a mask that is cut off there stays open.
    """
    inside = np.asarray(mask, bool)
    for _ in range(width):
        padded = np.pad(inside, 1, mode="edge")
        rows = padded[:-2] & padded[1:-1] & padded[2:]
        inside = rows[:, :-2] & rows[:, 1:-1] & rows[:, 2:]
    return mask & ~inside


def draw_points(image: np.ndarray, points: np.ndarray, labels: np.ndarray, radius: int | None = None) -> np.ndarray:
    """Clicks as discs with a white rim: green with a plus for label 1, red with a minus for label 0.

    Args:
      image: (H, W, 3) uint8 RGB.
      points: (N, 2) xy pixels of the image; what lies outside is cut off.
      labels: (N,), 1 foreground, 0 background; other labels are not drawn.
      radius: in pixels; a fortieth of the longer side when not given.
    """
    radius = radius or max(5, round(max(image.shape[:2]) / 40))
    canvas = Image.fromarray(image)
    markers = {1: _marker(radius, POSITIVE, plus=True), 0: _marker(radius, NEGATIVE, plus=False)}
    for (x, y), label in zip(np.asarray(points, float), np.asarray(labels), strict=True):
        if (marker := markers.get(int(label))) is not None:
            canvas.paste(marker, (round(float(x)) - radius, round(float(y)) - radius), marker)
    return np.asarray(canvas)


def draw_boxes(image: np.ndarray, boxes: np.ndarray, colour: Colour = POSITIVE, width: int | None = None) -> np.ndarray:
    """Rectangles with a white rim; `boxes` (N, 4) or (4,) xyxy pixels of the image, clipped to it."""
    height, length = image.shape[:2]
    width = width or max(2, round(max(height, length) / 170))
    canvas = Image.fromarray(image)
    draw = ImageDraw.Draw(canvas)
    for x0, y0, x1, y1 in np.asarray(boxes, float).reshape(-1, 4):
        xs, ys = np.clip([x0, x1], 0, length - 1), np.clip([y0, y1], 0, height - 1)
        corners = [float(xs.min()), float(ys.min()), float(xs.max()), float(ys.max())]
        draw.rectangle(corners, outline=_WHITE, width=width + 2)
        grown = [corners[0] + 1, corners[1] + 1, corners[2] - 1, corners[3] - 1]
        draw.rectangle(grown if grown[2] >= grown[0] and grown[3] >= grown[1] else corners, outline=colour, width=width)
    return np.asarray(canvas)


def write_line(image: np.ndarray, text: str) -> np.ndarray:
    """A line of text in the lower left corner, white on a dark bar; a new (H, W, 3) uint8 picture."""
    height, width = image.shape[:2]
    font = ImageFont.load_default(size=max(12, round(max(height, width) / 18)))
    canvas = Image.fromarray(image)
    draw = ImageDraw.Draw(canvas)
    _, _, right, bottom = draw.textbbox((0, 0), text, font)
    draw.rectangle((0, height - bottom - 8, right + 12, height), fill=_INK)
    draw.text((6, height - bottom - 6), text, _WHITE, font)
    return np.asarray(canvas)


def draw_prompt(image: np.ndarray, prompt: Prompt) -> np.ndarray:
    """The box and the clicks of a prompt, clicks on top; a mask prompt is not drawn."""
    if prompt.box is not None:
        image = draw_boxes(image, prompt.box)
    if prompt.points is not None:
        labels = np.ones(len(prompt.points), int) if prompt.labels is None else prompt.labels
        image = draw_points(image, prompt.points, labels)
    return image


def panel(
    rows: Sequence[Sequence[np.ndarray]],
    titles: Sequence[str] = (),
    row_labels: Sequence[str] = (),
    cell: int = 320,
) -> np.ndarray:
    """Contact sheet on white: one picture a cell, a title over each column, a label left of each row.

    Args:
      rows: pictures, (H, W, 3) uint8 each, any sizes; rows may be of different lengths.
      titles: one for each column, or none. Long ones wrap.
      row_labels: one for each row, or none.
      cell: pixels; every picture is scaled so that its longer side has this length.

    Returns: (height, width, 3) uint8.
    """
    columns = max(len(row) for row in rows)
    if (titles and len(titles) != columns) or (row_labels and len(row_labels) != len(rows)):
        raise ValueError(f"{len(titles)} titles and {len(row_labels)} row labels for {len(rows)} rows of {columns}")
    font, gap = ImageFont.load_default(size=max(12, round(cell / 18))), max(6, cell // 32)
    fitted = [[_fit(picture, cell) for picture in row] for row in rows]
    widths = [max(row[c].width for row in fitted if c < len(row)) for c in range(columns)]
    heights = [max(picture.height for picture in row) for row in fitted]
    heads = [_wrap(title, font, width) for title, width in zip(titles, widths, strict=False)]
    labels = [_wrap(label, font, cell // 2) for label in row_labels]
    left = max((_text_size(label, font)[0] for label in labels), default=-gap) + 2 * gap
    top = max((_text_size(head, font)[1] for head in heads), default=-gap) + 2 * gap
    xs = list(itertools.accumulate((width + gap for width in widths), initial=left))
    ys = list(itertools.accumulate((height + gap for height in heights), initial=top))

    sheet = Image.new("RGB", (xs[-1], ys[-1]), _WHITE)
    draw = ImageDraw.Draw(sheet)
    for x, width, head in zip(xs, widths, heads, strict=False):
        draw.multiline_text((x + width / 2, top - gap), head, _INK, font, anchor="md", align="center")
    for y, height, label in zip(ys, heights, labels, strict=False):
        draw.multiline_text((left - gap, y + height / 2), label, _GREY, font, anchor="rm", align="right")
    for y, row in zip(ys, fitted, strict=False):
        for x, width, picture in zip(xs, widths, row, strict=False):
            sheet.paste(picture, (x + (width - picture.width) // 2, y))
    return np.asarray(sheet)


def _marker(radius: int, colour: Colour, plus: bool) -> Image.Image:
    """RGBA disc of `radius` around its centre, with a white rim and sign."""
    side = (2 * radius + 1) * _SMOOTH
    middle, arm, bar, rim = side / 2, side * 0.26, side * 0.065, side * 0.1
    disc = Image.new("RGBA", (side, side), (255, 255, 255, 0))
    draw = ImageDraw.Draw(disc)
    draw.ellipse((0, 0, side - 1, side - 1), fill=_WHITE)
    draw.ellipse((rim, rim, side - 1 - rim, side - 1 - rim), fill=colour)
    draw.rectangle((middle - arm, middle - bar, middle + arm - 1, middle + bar - 1), fill=_WHITE)
    if plus:
        draw.rectangle((middle - bar, middle - arm, middle + bar - 1, middle + arm - 1), fill=_WHITE)
    return disc.resize((2 * radius + 1, 2 * radius + 1), Image.Resampling.BOX)


def _fit(picture: np.ndarray, cell: int) -> Image.Image:
    height, width = picture.shape[:2]
    scale = cell / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS)


def _wrap(text: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont, width: int) -> str:
    """Break between words so that no line is wider than `width` pixels, unless one word is."""
    lines: list[str] = []
    for word in text.split():
        if lines and font.getlength(f"{lines[-1]} {word}") <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return "\n".join(lines)


def _text_size(text: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont) -> tuple[int, int]:
    box = ImageDraw.Draw(Image.new("RGB", (1, 1))).multiline_textbbox((0, 0), text, font)
    return int(np.ceil(box[2])), int(np.ceil(box[3]))
