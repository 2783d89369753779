"""Segment everything: click on a grid of points, keep the masks that the model is sure of, drop doubles.

Source: Kirillov et al. 2023, app. B, and segment-anything's `SamAutomaticMaskGenerator`, whose options, order and
records these are. On the device there are two chunks of clicks at a time, whatever the grid; on the host the masks that
passed the thresholds, a bit a pixel, and one whole mask (all that stay, where the records ask for binary masks).
"""

import functools
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np

from sadist_jax.codecs import rle
from sadist_jax.codecs.images import to_rgb
from sadist_jax.errors import BadInput
from sadist_jax.models.efficient_sam import EfficientSam
from sadist_jax.models.sam import Sam
from sadist_jax.ops import boxes
from sadist_jax.predict.candidates import Candidates, Thresholds, View, candidates
from sadist_jax.predict.framing import Framing
from sadist_jax.predict.grid import Crop, Everything, crops_of
from sadist_jax.predict.packing import bucket
from sadist_jax.predict.small_regions import fill_holes, remove_islands
from sadist_jax.typing import Array, Params

STEP = 128  # crops are filled up to multiples of it, so that photos of many sizes share few programs
OutputMode = Literal["binary_mask", "uncompressed_rle", "coco_rle"]  # of the masks in records
BUDGET = 2**28  # bytes of the packed masks of a chunk: for large photos fewer clicks are decoded at once


class Found(NamedTuple):
    """One mask. box: xyxy of the image, ends included. point, crop: in pixels of the image.

    frame, bits: where its pixels lie in the image (xyxy, ends not included), and these, packed by rows.
    """

    iou: float
    stability: float
    box: np.ndarray
    point: np.ndarray
    crop: tuple[int, int, int, int]
    frame: tuple[int, int, int, int]
    bits: np.ndarray

    def mask(self, image: tuple[int, int]) -> np.ndarray:
        """bool (height, width) of the image."""
        x0, y0, x1, y1 = self.frame
        whole = np.zeros(image, bool)
        whole[y0:y1, x0:x1] = np.unpackbits(self.bits, -1)[: y1 - y0, : x1 - x0]
        return whole


class MaskGenerator:
    """Segments everything in images with one model.

    Example:
      >>> model = Sam.mini()
      >>> generator = MaskGenerator(model, model.init(jax.random.key(0)), Everything(points_per_side=2))
      >>> generator.generate(np.zeros((120, 160, 3), np.uint8))
      []
    """

    def __init__(
        self,
        model: Sam | EfficientSam,
        params: Params,
        options: Everything | None = None,
        output_mode: OutputMode = "binary_mask",
    ):
        if output_mode not in get_args(OutputMode):
            raise BadInput(f"output_mode is {output_mode!r}; it must be one of {', '.join(get_args(OutputMode))}")
        self.model, self.params = model, jax.device_put(params)
        self.options, self.output_mode = options or Everything(), output_mode

    def generate(self, image: np.ndarray) -> list[dict[str, Any]]:
        """Records of segment-anything for an image (H, W, 3) uint8, RGB; grey and RGBA are converted.

        Each has segmentation (bool (H, W), or an RLE), area, bbox (XYWH, w = last - first), predicted_iou, point_coords
        [[x, y]], stability_score, crop_box (XYWH); the surest come first, those of larger crops last.
        """
        picture, options = to_rgb(np.asarray(image)), self.options
        crops = crops_of(picture.shape[:2], options.crop_n_layers, options.crop_overlap_ratio)
        found = [mask for crop in crops for mask in self._crop(picture, crop)]
        if len(crops) > 1:
            scores = [1 / _area(mask.crop) for mask in found]
            found = _suppress(found, scores, options.crop_nms_thresh)
        whole = picture.shape[0], picture.shape[1]
        if options.min_mask_region_area:
            found = self._cleaned(found, whole)
        return [self._record(mask, mask.mask(whole)) for mask in found]

    def _crop(self, picture: np.ndarray, crop: Crop) -> list[Found]:
        """What stays of one crop, the surest first."""
        x0, y0, x1, y1 = crop.box
        part, height, width = picture[y0:y1, x0:x1], *crop.shape
        framing = Framing.of(crop.shape, self.model.image_size, self.model.fit)
        size = jnp.array([framing.content], jnp.int32)
        embedding = _encode(self.model, self.params, framing.pixels(part)[None], size)
        view = self._view(framing, crop, picture.shape[:2], embedding)
        points = self.options.grids()[crop.layer] * (width, height)
        found = [mask for masks in self._chunks(points, framing, embedding, view, crop) for mask in masks]
        return _suppress(found, [mask.iou for mask in found], self.options.box_nms_thresh)

    def _view(self, framing: Framing, crop: Crop, image: tuple[int, int], embedding: Array) -> View:
        low = (4 * embedding.shape[1], 4 * embedding.shape[2])
        rows, columns = (np.pad(x, ((0, -len(x) % STEP), (0, 0))) for x in framing.resampling(low))
        edges = np.array([crop.box, (0, 0, image[1], image[0])], np.float32)
        return View(*map(jnp.asarray, (rows, columns, np.array(crop.shape), *edges)))

    def _chunks(
        self, points: np.ndarray, framing: Framing, embedding: Array, view: View, crop: Crop
    ) -> Iterator[list[Found]]:
        """The masks that pass, chunk by chunk; the next chunk is computed while one is fetched."""
        options, packed = self.options, 3 * view.rows.shape[0] * view.columns.shape[0] // 8
        fit = 1 << max(1, BUDGET // packed).bit_length() - 1
        many = min(options.points_per_batch, bucket(len(points)), fit)
        limits = options.pred_iou_thresh, options.stability_score_thresh, options.stability_score_offset
        thresholds = Thresholds(*(jnp.float32(x) for x in limits))
        running: tuple[np.ndarray, Candidates] | None = None
        for start in range(0, len(points), many):
            some = points[start : start + many]
            filled = np.zeros((many, 2), np.float32)
            filled[: len(some)] = framing.points(some)
            there = np.arange(many) < len(some)
            chunk = candidates(self.model, self.params, embedding, filled, there, thresholds, view)
            if running:
                yield _fetched(*running, crop)
            running = some, chunk
        if running:
            yield _fetched(*running, crop)

    def _cleaned(self, found: list[Found], image: tuple[int, int]) -> list[Found]:
        """Without small holes and islands; of the doubles that this makes, the masks that had none stay."""
        area, cleaned, scores = self.options.min_mask_region_area, [], []
        for mask in found:
            filled, holes = fill_holes(mask.mask(image), area)
            whole, islands = remove_islands(filled, area)
            if holes or islands:
                bits = np.packbits(whole, -1)
                mask = mask._replace(box=_box(whole), frame=(0, 0, image[1], image[0]), bits=bits)
            cleaned.append(mask)
            scores.append(0.0 if holes or islands else 1.0)
        return _suppress(cleaned, scores, max(self.options.box_nms_thresh, self.options.crop_nms_thresh))

    def _record(self, found: Found, mask: np.ndarray) -> dict[str, Any]:
        (x0, y0, x1, y1), (left, top, right, bottom) = found.crop, map(int, found.box)
        segmentation: Any = mask
        if self.output_mode != "binary_mask":
            segmentation = rle.encode(mask)
        if self.output_mode == "coco_rle":
            segmentation = rle.compress(segmentation)
        return {
            "segmentation": segmentation,
            "area": int(mask.sum()),
            "bbox": [left, top, right - left, bottom - top],
            "predicted_iou": found.iou,
            "point_coords": [found.point.tolist()],
            "stability_score": found.stability,
            "crop_box": [x0, y0, x1 - x0, y1 - y0],
        }


@jax.jit
def _taken(bits: Array, rows: Array) -> Array:
    return bits.reshape(-1, *bits.shape[2:])[rows]


def _fetched(points: np.ndarray, chunk: Candidates, crop: Crop) -> list[Found]:
    """The masks of a chunk that passed, in the order of the points; only they leave the device."""
    which = np.flatnonzero(np.asarray(chunk.passed))
    if not len(which):
        return []
    rows = np.zeros(1 << int(len(which) - 1).bit_length(), np.int32)
    rows[: len(which)] = which
    bits = np.asarray(_taken(chunk.bits, rows))
    iou, stability, box = (np.asarray(x).reshape(-1, *x.shape[2:]) for x in (chunk.iou, chunk.stability, chunk.box))
    corner = np.array(crop.box[:2], np.float32)
    masks = []
    for k, i in enumerate(which):
        point, shifted = points[i // 3] + corner, box[i] + np.tile(corner, 2)
        own = bits[k, : crop.shape[0]].copy()  # a view would keep the whole chunk
        masks.append(Found(float(iou[i]), float(stability[i]), shifted, point, crop.box, crop.box, own))
    return masks


def _suppress(found: list[Found], scores: Sequence[float], threshold: float) -> list[Found]:
    """Those that stay, with the best scores first."""
    if not found:
        return []
    empty = (1 << (len(found) - 1).bit_length()) - len(found)  # so that few programs are compiled
    corners = np.pad(np.stack([mask.box for mask in found]), ((0, empty), (0, 0)))
    ranks = np.pad(np.asarray(scores, np.float32), (0, empty))
    keep = np.asarray(_nms(corners, ranks, threshold, np.arange(len(ranks)) < len(found)))
    order = np.argsort(-ranks[: len(found)], kind="stable")
    return [found[i] for i in order if keep[i]]


@jax.jit
def _nms(corners: Array, scores: Array, threshold: Array, there: Array) -> Array:
    return boxes.nms(corners, scores, threshold, where=there)


@functools.partial(jax.jit, static_argnums=0)
def _encode(model: Sam | EfficientSam, params: Params, image: Array, size: Array) -> Array:
    return model.encode(params, image, size)


def _area(crop: tuple[int, int, int, int]) -> int:
    return (crop[2] - crop[0]) * (crop[3] - crop[1])


def _box(mask: np.ndarray) -> np.ndarray:
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    if not len(rows):
        return np.zeros(4, np.float32)
    return np.array([columns[0], rows[0], columns[-1], rows[-1]], np.float32)
