"""Images with weak prompts, in two views, for adaptation without masks."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from sadist_jax.codecs.geometry import Hw, longest_side_shape, pad_to_square, resize_image, resize_mask, scale_points
from sadist_jax.codecs.prompts import Prompt, box_of
from sadist_jax.codecs.views import VIEWS, draw_view, flip_boxes, flip_points, flip_view, strong_view
from sadist_jax.data import weak_prompts
from sadist_jax.data.sami_views import features_of
from sadist_jax.data.sample import Reader, Row, Sample, Unreadable
from sadist_jax.data.weak_prompts import EMPTY, MOST_POINTS, NEGATIVE, POSITIVE, Slots
from sadist_jax.errors import BadInput

LOOKED_AT = 16  # pictures, evenly spaced, before a run: a sequence may well begin with some that show nothing
SLOTS = {"box": 2, "point": POSITIVE + NEGATIVE, "coarse": 2, "coarse_box": 2, "automatic": 2 + MOST_POINTS}


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
        masks    uint8 {0, 1} (instances, size, size): ground truth; none with prompt "automatic"
        instance bool (instances,): rows that are real, first; the others are zeros without a prompt
        weight   float32: 0 where there is no instance
        anchor   float32 (h, w, c): the anchor's embedding of the weak view, only where `anchor` says so

    Where an image has more instances than rows, rows are drawn at random without repetition. Crowds and instances that
    have less than `min_area` pixels in the frame are no instances. Prompts are drawn anew with every row. The strong
    view, and the polygon of a coarse mask, are made in the frame (the released code makes them of the original).

    size: S of the model.
    instances: K; the released code takes 40 at most.
    prompt: 'box', tight; 'point', 5 of the object and 5 of the rest; 'coarse', a polygon of few corners as a mask,
      and its box, since SAM has never seen a mask alone; 'coarse_box', that box without the mask, which is what the
      released code takes; 'automatic', prompts of the whole
      image from the file `prompts` (data/weak_prompts.py has its format), whoever made them; the sample's own masks
      are not looked at.
    min_area: pixels of the frame.
    anchor: (h, w, c) of an embedding where the source is `WithFeatures` over what `sadist features` has written for a
      run like this one, (64, 64, 256) for SAM at 1024 px; None: the anchor's encoder is in the step.
    """

    size: int = 1024
    instances: int = 40
    prompt: Literal["box", "point", "coarse", "coarse_box", "automatic"] = "box"
    prompts: str | None = None
    min_area: int = 1
    anchor: tuple[int, int, int] | None = None

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

    def check(self, reader: Reader) -> None:
        """Raises BadInput where samples have no prompts: a file that lacks them, or no masks to make them from."""
        if self.prompts is not None:
            return weak_prompts.check_names(self.prompts, [reader.name(i) for i in range(len(reader))])
        looked = np.unique(np.linspace(0, len(reader) - 1, LOOKED_AT).round().astype(int)) if len(reader) else ()
        if not any(_has_mask(reader, int(i)) for i in looked):
            raise BadInput(
                f"none of {len(looked)} pictures has a mask to take a {self.prompt} from ({reader.name(0)}, ...); with "
                "prompt 'automatic' and a file of prompts none is needed"
            )
        return None

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Row:
        view, content = draw_view(rng), longest_side_shape(sample.image.shape[:2], self.size)
        rows = self._rows()
        fill = self._given if self.prompt == "automatic" else self._simulated
        fill(rows, sample, view, content, rng)
        weak = resize_image(flip_view(sample.image, view), content)
        return {
            **rows,
            **self._kept(sample, view),
            "image": pad_to_square(weak, self.size),
            "strong": pad_to_square(strong_view(weak, rng), self.size),
            "size": np.array(content, np.int32),
            "view": np.int32(view),
            "weight": np.float32(rows["instance"].any()),
        }

    def filler(self) -> Row:
        """A row of nothing; its size is 1 x 1, so that no division by it fails."""
        images: Row = {name: np.zeros((self.size, self.size, 3), np.uint8) for name in ("image", "strong")}
        if self.anchor is not None:
            images["anchor"] = np.zeros(self.anchor, np.float32)
        return {**self._rows(), **images, "size": np.ones(2, np.int32), "view": np.int32(0), "weight": np.float32(0)}

    def _rows(self) -> dict[str, np.ndarray]:
        """What has one row an instance, none of them real yet."""
        count, slots = self.instances, SLOTS[self.prompt]
        masks = {"coarse": ("coarse", "masks"), "automatic": ()}.get(self.prompt, ("masks",))
        return {
            "points": np.zeros((count, slots, 2), np.float32),
            "labels": np.full((count, slots), EMPTY, np.int32),
            "instance": np.zeros(count, bool),
            **{name: np.zeros((count, self.size, self.size), np.uint8) for name in masks},
        }

    def _kept(self, sample: Sample, view: int) -> Row:
        """The anchor's embedding of that view, where the source brings it. Raises BadInput where it should, and not."""
        if self.anchor is None:
            return {}
        kept = features_of(sample, (VIEWS, *self.anchor), WeakViews(self.size).view())
        return {"anchor": kept[view].astype(np.float32)}

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
            rows["masks"][found, :height, :width] = mask
            if self.prompt == "coarse":
                rows["coarse"][found, :height, :width] = weak_prompts.coarse_mask(mask)
            rows["instance"][found] = True
            found += 1

    def _simulate(self, mask: np.ndarray, rng: np.random.Generator) -> Slots:
        """mask: (h, w) of the content."""
        if self.prompt == "point":
            return weak_prompts.from_points(mask, rng)
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
            rows["points"][found], rows["labels"][found] = weak_prompts.from_prompt(prompt)
            rows["instance"][found] = True


@dataclass(frozen=True)
class WeakViews:
    """Sample -> frame uint8 (4, size, size, 3): every weak view that `WeakFrames` may draw; size int32 (2,), their
    content's. The anchor sees nothing else, so what it makes of them can be kept."""

    size: int = 1024

    def teacher_input(self, sample: Sample) -> Row:
        """What the anchor sees."""
        content = longest_side_shape(sample.image.shape[:2], self.size)
        views = [resize_image(flip_view(sample.image, view), content) for view in range(VIEWS)]
        return {
            "frame": np.stack([pad_to_square(view, self.size) for view in views]),
            "size": np.array(content, np.int32),
        }

    def view(self) -> str:
        return f"whole image in four flips, longest side {self.size} px, padded"

    @property
    def shown(self) -> tuple[str, ...]:
        """Names in `teacher_input`."""
        return "frame", "size"

    def filler(self) -> Row:
        return {"frame": np.zeros((VIEWS, self.size, self.size, 3), np.uint8), "size": np.full(2, self.size, np.int32)}


def _has_mask(reader: Reader, index: int) -> bool:
    try:
        return len(reader[index].masks) > 0
    except Unreadable:
        return False


def _placed(prompt: Prompt, view: int, hw: Hw, content: Hw) -> Prompt:
    """From the original's pixels to the frame's."""
    box, points = prompt.box, prompt.points
    if box is not None:
        inside = np.minimum(box, [hw[1] - 1, hw[0] - 1] * 2)  # the ends that a user gives may be the image's own
        box = scale_points(flip_boxes(inside, view, hw).reshape(2, 2), hw, content).ravel()
    if points is not None:
        points = scale_points(flip_points(points, view, hw), hw, content)
    return Prompt(points, prompt.labels, box)
