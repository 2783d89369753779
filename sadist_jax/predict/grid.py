"""What everything mode is asked for, and where it clicks: crops of an image, and grids of points in them.

Source: Kirillov et al. 2023, app. B, and segment-anything's utils/amg.py (`generate_crop_boxes`, `build_point_grid`).
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple

import numpy as np
import tyro

from sadist_jax.errors import BadInput


@dataclasses.dataclass(frozen=True)
class Everything:
    """Options, with segment-anything's names and defaults."""

    points_per_side: int = 32
    """of the grid of clicks"""
    points_per_batch: int = 64
    """clicks that are decoded at once, which is what memory depends on"""
    pred_iou_thresh: float = 0.88
    """of the predicted IoU; 0: none"""
    stability_score_thresh: float = 0.95
    """of the IoU of the mask with itself, thresholded a little higher and a little lower"""
    stability_score_offset: float = 1.0
    """logits: how much higher and lower"""
    box_nms_thresh: float = 0.7
    """IoU of boxes above which the less sure mask goes"""
    crop_n_layers: int = 0
    """layer k cuts the image into 2^k x 2^k crops, which are looked at too"""
    crop_nms_thresh: float = 0.7
    """as box_nms_thresh, between crops: the mask of the smaller crop stays"""
    crop_overlap_ratio: float = 512 / 1500
    """of crops of layer 1, as a share of the shorter side; half of it in each further layer"""
    crop_n_points_downscale_factor: int = 1
    """by which points_per_side shrinks from layer to layer"""
    point_grids: Annotated[Sequence[np.ndarray] | None, tyro.conf.Suppress] = None
    """(n, 2) xy in 0..1 for each layer, instead of points_per_side; not on the command line"""
    min_mask_region_area: int = 0
    """pixels: smaller holes are filled, smaller islands removed; 0: none"""

    def __post_init__(self):
        if self.points_per_batch < 1 or self.crop_n_layers < 0 or self.crop_n_points_downscale_factor < 1:
            raise BadInput(
                "points_per_batch and crop_n_points_downscale_factor must be 1 or more, crop_n_layers not negative"
            )
        if not 0 <= self.crop_overlap_ratio < 1 or self.min_mask_region_area < 0:
            raise BadInput("crop_overlap_ratio must be 0 or more and below 1, min_mask_region_area not negative")
        for layer, grid in enumerate(self.grids()):
            pairs = grid.ndim == 2 and grid.shape[1] == 2 and len(grid)
            if not pairs or not ((grid >= 0) & (grid <= 1)).all():  # NaN is not
                raise BadInput(f"the points of layer {layer} must be (n, 2) xy between 0 and 1, at least one of them")

    def identity(self) -> dict[str, Any]:
        """The options that the masks depend on: not how many clicks are decoded at once."""
        kept = {k: v for k, v in dataclasses.asdict(self).items() if k != "points_per_batch"}
        return kept | ({} if self.point_grids is None else {"point_grids": [grid.tolist() for grid in self.grids()]})

    def grids(self) -> list[np.ndarray]:
        """Points of each layer."""
        if self.point_grids is None:
            return point_grids(self.points_per_side, self.crop_n_layers, self.crop_n_points_downscale_factor)
        if len(self.point_grids) <= self.crop_n_layers:
            raise BadInput(f"there are {len(self.point_grids)} point_grids for {self.crop_n_layers + 1} layers")
        return [np.asarray(grid, np.float64) for grid in self.point_grids]


class Crop(NamedTuple):
    """box: xyxy in pixels of the image, the ends not included. layer: 0 for the whole image."""

    box: tuple[int, int, int, int]
    layer: int

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        x0, y0, x1, y1 = self.box
        return y1 - y0, x1 - x0


def crops_of(image: tuple[int, int], layers: int, overlap: float) -> list[Crop]:
    """The whole image, then 4 crops, 16, ...: layer k is cut into 2^k x 2^k, column by column.

    image: height and width. overlap: of neighbours in layer 1, as a share of the image's shorter side; half of that in
    each further layer. Crops that a small image leaves empty are left out.
    """
    height, width = image
    found = [Crop((0, 0, width, height), 0)]
    for layer in range(1, layers + 1):
        many = 2**layer
        shared = int(overlap * min(image) * (2 / many))
        tall, wide = (math.ceil((shared * (many - 1) + side) / many) for side in image)
        boxes = [
            (x, y, min(x + wide, width), min(y + tall, height))
            for x in (int((wide - shared) * i) for i in range(many))
            for y in (int((tall - shared) * i) for i in range(many))
        ]
        found += [Crop(box, layer) for box in boxes if box[0] < box[2] and box[1] < box[3]]
    return found


def point_grid(side: int) -> np.ndarray:
    """(side^2, 2) xy in 0..1, row by row: the middles of side x side cells."""
    if side < 1:
        return np.zeros((0, 2))
    line = np.linspace(1 / (2 * side), 1 - 1 / (2 * side), side)
    return np.stack(np.meshgrid(line, line), -1).reshape(-1, 2)


def point_grids(side: int, layers: int, downscale: int) -> list[np.ndarray]:
    """Of layer 0, 1, ...: each has 1 / downscale as many points a side as the one before."""
    return [point_grid(int(side / downscale**layer)) for layer in range(layers + 1)]
