"""Images with weak prompts, in two views, for adaptation without masks."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from sadist_jax.codecs.geometry import Hw, longest_side_shape, pad_to_square, resize_image, resize_mask, scale_points
from sadist_jax.codecs.prompts import Prompt, box_of
from sadist_jax.codecs.views import draw_view, flip_boxes, flip_points, flip_view, strong_view
from sadist_jax.data import weak_prompts
from sadist_jax.data.sample import Row, Sample
from sadist_jax.data.weak_prompts import EMPTY, MOST_POINTS, NEGATIVE, POSITIVE, Slots
from sadist_jax.errors import BadInput

SLOTS = {"box": 2, "point": POSITIVE + NEGATIVE, "coarse": 1, "coarse_box": 2, "automatic": 2 + MOST_POINTS}


@dataclass(frozen=True)
class WeakFrames:
    """Sample -> one row of `WeakLora`'s batch, all in the padded frame of `size` pixels:

        image    uint8 (size, size, 3): the weak view, one of four flips: longest side resized, content at the top
                 left, zeros elsewhere (the released code pads on both sides)
        strong   uint8 (size, size, 3): the same pixels in other colours
        size     int32 (2,): (h, w) of the content
        view     int32: which flip, as codecs/views.py numbers them
        points   float32 (instances, slots, 2) xy, and labels int32 (instances, slots): the prompts
        coarse   uint8 {0, 1} (instances, size, size): masks as prompts, with prompt "coarse" only
        box      float32 (instances, 4) xyxy, ends included: of the instance, whatever the prompt is
        masks    uint8 {0, 1} (instances, size, size): ground truth; none with prompt "automatic"
        instance bool (instances,): rows that are real, first; the others are zeros without a prompt
        weight   float32: 0 where there is no instance

    Where an image has more instances than rows, rows are drawn at random without repetition. Crowds and instances that
    have less than `min_area` pixels in the frame are no instances. Prompts are drawn anew with every row.

    size: S of the model.
    instances: K; the released code takes 40 at most.
    prompt: 'box', tight; 'point', 5 of the object and 5 of the rest; 'coarse', a polygon of few corners as a mask;
      'coarse_box', the box of that polygon, which is what the released code takes; 'automatic', prompts of the whole
      image from the file `prompts` (data/weak_prompts.py has its format), whoever made them; the sample's own masks
      are not looked at.
    min_area: pixels of the frame.
    """

    size: int = 1024
    instances: int = 40
    prompt: Literal["box", "point", "coarse", "coarse_box", "automatic"] = "box"
    prompts: str | None = None
    min_area: int = 1

    def __post_init__(self):
        for name in ("size", "instances", "min_area"):
            if getattr(self, name) < 1:
                raise BadInput(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.prompt not in SLOTS:
            raise BadInput(f"prompt is {self.prompt!r}; it must be one of {', '.join(SLOTS)}")
        if (self.prompts is None) == (self.prompt == "automatic"):
            raise BadInput(
                f"prompt is {self.prompt!r} and prompts {self.prompts!r}: a file for 'automatic' and only it"
            )

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Row:
        view, content = draw_view(rng), longest_side_shape(sample.image.shape[:2], self.size)
        rows = self._rows()
        fill = self._given if self.prompt == "automatic" else self._simulated
        fill(rows, sample, view, content, rng)
        weak = resize_image(flip_view(sample.image, view), content)
        return {
            **rows,
            "image": pad_to_square(weak, self.size),
            "strong": pad_to_square(strong_view(weak, rng), self.size),
            "size": np.array(content, np.int32),
            "view": np.int32(view),
            "weight": np.float32(rows["instance"].any()),
        }

    def filler(self) -> Row:
        """A row of nothing; its size is 1 x 1, so that no division by it fails."""
        images = {name: np.zeros((self.size, self.size, 3), np.uint8) for name in ("image", "strong")}
        return {**self._rows(), **images, "size": np.ones(2, np.int32), "view": np.int32(0), "weight": np.float32(0)}

    def _rows(self) -> dict[str, np.ndarray]:
        """What has one row an instance, none of them real yet."""
        count, slots = self.instances, SLOTS[self.prompt]
        masks = {"coarse": ("coarse", "masks"), "automatic": ()}.get(self.prompt, ("masks",))
        return {
            "points": np.zeros((count, slots, 2), np.float32),
            "labels": np.full((count, slots), EMPTY, np.int32),
            "box": np.zeros((count, 4), np.float32),
            "instance": np.zeros(count, bool),
            **{name: np.zeros((count, self.size, self.size), np.uint8) for name in masks},
        }

    def _simulated(
        self, rows: dict[str, np.ndarray], sample: Sample, view: int, content: Hw, rng: np.random.Generator
    ) -> None:
        """Fill `rows` from the sample's masks."""
        height, width = content
        found = 0
        for i in rng.permutation(np.flatnonzero(~np.asarray(sample.iscrowd, bool))):
            if found == self.instances:
                break
            mask = resize_mask(flip_view(sample.masks[int(i)], view), content)
            if np.count_nonzero(mask) < self.min_area:
                continue
            rows["points"][found], rows["labels"][found] = self._simulate(mask, rng)
            rows["box"][found] = box_of(mask)
            rows["masks"][found, :height, :width] = mask
            if self.prompt == "coarse":
                rows["coarse"][found, :height, :width] = weak_prompts.coarse_mask(mask)
            rows["instance"][found] = True
            found += 1

    def _simulate(self, mask: np.ndarray, rng: np.random.Generator) -> Slots:
        """mask: (h, w) of the content."""
        if self.prompt == "point":
            return weak_prompts.from_points(mask, rng)
        if self.prompt == "coarse":
            return Slots(np.zeros((1, 2), np.float32), np.array([EMPTY], np.int32))
        return weak_prompts.from_box(box_of(mask) if self.prompt == "box" else weak_prompts.coarse_box(mask))

    def _given(
        self, rows: dict[str, np.ndarray], sample: Sample, view: int, content: Hw, rng: np.random.Generator
    ) -> None:
        """Fill `rows` from the file of prompts."""
        assert self.prompts is not None
        hw = sample.image.shape[:2]
        prompts = weak_prompts.of_image(self.prompts, sample.name, hw)
        for found, i in enumerate(rng.permutation(len(prompts))[: self.instances]):
            prompt = _placed(prompts[i], view, hw, content)
            slots = weak_prompts.from_prompt(prompt)
            rows["points"][found], rows["labels"][found] = slots
            corners = slots.points[slots.labels > 0]
            rows["box"][found] = np.concatenate([corners.min(0), corners.max(0)]) if len(corners) else 0
            rows["instance"][found] = True


def _placed(prompt: Prompt, view: int, hw: Hw, content: Hw) -> Prompt:
    """From the original's pixels to the frame's."""
    box, points = prompt.box, prompt.points
    if box is not None:
        inside = np.minimum(box, [hw[1] - 1, hw[0] - 1] * 2)  # the ends that a user gives may be the image's own
        box = scale_points(flip_boxes(inside, view, hw).reshape(2, 2), hw, content).ravel()
    if points is not None:
        points = scale_points(flip_points(points, view, hw), hw, content)
    return Prompt(points, prompt.labels, box)
