"""Seeded scenes with exact masks: things of many shapes and surfaces, painted back to front.

For tests, the demo and the mini teacher. Scene i is a pure function of (seed, i) and the arguments; the JPEG step
depends on the JPEG library beneath Pillow, so bytes can differ between machines, masks do not.
"""

import dataclasses
import hashlib
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from sadist_jax.data.sample import Sample, uncategorised
from sadist_jax.data.scene_shapes import Contours, Raster, draw_shape, place, rasterise
from sadist_jax.data.scene_textures import Surface, alike, draw_surface, noise, paint
from sadist_jax.errors import BadInput

Rng = np.random.Generator
RECIPE = 1  # goes up when equal arguments would give other scenes
_NOBODY = -1  # owner of pixels without a label


@dataclasses.dataclass(frozen=True, eq=False)
class Scenes:
    """`count` scenes of size x size pixels: a `sample.Reader` of instances, none of them a crowd.

    Args:
        size: side in pixels; from 64 on they look like something.
        seed: with the index, all there is to randomness.
        count: how many; indices 0..count - 1.
        textures: uint8 photos (h, w, 3); crops of them serve as surfaces. What they show is not labelled.
        cutouts: (photo uint8 (h, w, 3), mask bool (h, w)) pairs, pasted as things with the mask's outline.
        objects: fewest and most things, regions of the ground included, before hidden ones are dropped.
        min_pixels: what shows fewer pixels has no mask.
    """

    size: int = 256
    seed: int = 0
    count: int = 1000
    textures: Sequence[np.ndarray] = ()
    cutouts: Sequence[tuple[np.ndarray, np.ndarray]] = ()
    objects: tuple[int, int] = (3, 12)
    min_pixels: int = 20

    def __len__(self) -> int:
        return self.count

    def __post_init__(self):
        fewest, most = self.objects
        if self.size < 16 or self.seed < 0 or self.count < 0 or not 1 <= fewest <= most:
            raise BadInput(
                f"scenes need size >= 16, seed >= 0, count >= 0 and 1 <= fewest <= most objects, not size {self.size}, "
                f"seed {self.seed}, count {self.count}, objects {self.objects}"
            )
        for photo in [*self.textures, *(photo for photo, _ in self.cutouts)]:
            if photo.dtype != np.uint8 or photo.ndim != 3 or photo.shape[2] != 3 or 0 in photo.shape:
                raise BadInput(f"textures of scenes must be uint8 (h, w, 3) photos, not {photo.dtype} {photo.shape}")
        for photo, mask in self.cutouts:
            if mask.dtype != bool or mask.shape != photo.shape[:2] or not mask.any():
                raise BadInput(f"a cutout of scenes must have a mask bool {photo.shape[:2]} that is not empty")

    def __getitem__(self, index: int) -> Sample:
        name = self.name(index)
        image, masks = self.scene(index)
        image.flags.writeable = False
        return uncategorised(image, masks, name)

    def name(self, index: int) -> str:
        """What a scene is called in logs."""
        if not 0 <= index < self.count:
            raise IndexError(f"scene {index} of {self.count}")
        return f"scene-{self.seed}-{index:07d}"

    def digest(self) -> str:
        """Hex digest of all that the scenes depend on."""
        settings = (RECIPE, self.size, self.seed, self.count, tuple(self.objects), self.min_pixels)
        digest = hashlib.sha256(repr(settings).encode())
        for array in [*self.textures, *(part for cutout in self.cutouts for part in cutout)]:
            digest.update(repr((array.shape, array.dtype.str)).encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def scene(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Scene `index` -> image uint8 (S, S, 3), masks bool (n, S, S).

        The masks are the visible parts, back to front, and do not overlap: a pixel belongs to the frontmost thing that
        covers at least half of it. Pixels of unlabelled background are in none.
        """
        rng = np.random.default_rng([self.seed, int(index)])
        canvas = _Canvas(self, rng)
        canvas.paint_ground(total := int(rng.integers(self.objects[0], self.objects[1] + 1)))
        canvas.paint_things(total - canvas.labels)
        owners = np.arange(canvas.labels)
        pixels = np.bincount(canvas.owner.ravel() + 1, minlength=canvas.labels + 1)[1:]
        masks = canvas.owner == owners[pixels >= self.min_pixels][:, None, None]
        return _photograph(canvas.image, rng), masks


class _Canvas:
    """One scene while it is painted: image float32 (S, S, 3) in 0..255 and owner int16 (S, S), a label or nobody."""

    def __init__(self, scenes: Scenes, rng: Rng):
        self.scenes, self.rng, self.size = scenes, rng, scenes.size
        self.image = np.zeros((self.size, self.size, 3), np.float32)
        self.owner = np.full((self.size, self.size), _NOBODY, np.int16)
        self.labels = 0
        angle = rng.uniform(0, 2 * np.pi)
        self.light = np.array([np.cos(angle), np.sin(angle)])  # where it comes from, xy
        self.plastic = rng.uniform(0, 1)  # how much shading and shadow this scene has

    def paint_ground(self, total: int) -> None:
        """Backdrop, now and then divided into labelled regions (sky, wall, floor, water), with unlabelled clutter."""
        rng, size = self.rng, self.size
        backdrop = draw_surface(rng, size, self.scenes.textures, photo_share=0.6)
        self.image[:] = paint(backdrop, (size, size), rng, self.scenes.textures)
        regions = min(int(rng.choice(5, p=[0.45, 0.27, 0.16, 0.08, 0.04])), total - 1)
        if regions and backdrop.photo is None:  # a photo is not one region
            self.owner[:] = self._new_label()
        for level in np.sort(rng.uniform(0.2, 0.9, regions)):
            region = rasterise(_region(level * size, size, rng), size, rng.choice([0, 0, 2.0]))
            if region is not None:
                self._put(region, paint(self._draw_surface(0.25), region.hw, rng, self.scenes.textures))
        if rng.random() < 0.5:
            self.image = _scribble(self.image, rng)
        if rng.random() < 0.25:  # the lens is focused on the things
            blurred = Image.fromarray(_to_bytes(self.image)).filter(ImageFilter.GaussianBlur(rng.uniform(0.5, 3)))
            self.image = np.array(blurred, np.float32)

    def paint_things(self, count: int) -> None:
        """Things from large to small, more or less, so that few are hidden whole."""
        rng, size = self.rng, self.size
        radii = size * np.exp(rng.uniform(np.log(0.035), np.log(rng.choice([0.15, 0.35, 0.55])), count))
        radii = radii[np.argsort(-radii * np.exp(rng.normal(0, 0.4, count)))]
        middle, spread = rng.uniform(0.2, 0.8, 2), rng.choice([0.15, 0.5])  # at times they crowd together
        surface = shape = None
        for radius in radii.tolist():
            centre = size * (rng.uniform(0, 1, 2) if spread == 0.5 else rng.normal(middle, spread))
            if len(self.scenes.cutouts) and rng.random() < 0.3:
                self._paste(radius, centre)
                continue
            # neighbours of one kind: the same outline, nearly the same surface
            surface = alike(surface, rng) if surface is not None and rng.random() < 0.3 else self._draw_surface()
            shape = shape if shape is not None and rng.random() < 0.2 else draw_shape(rng)
            self._paint_thing(surface, place(shape, radius, centre, rng), radius)

    def _paint_thing(self, surface: Surface, contours: Contours, radius: float) -> None:
        rng = self.rng
        raster = rasterise(contours, self.size, soft=rng.choice([0, 0, rng.uniform(0.3, 1.5)]))
        if raster is None:
            return
        colours = paint(surface, raster.hw, rng, self.scenes.textures)
        if rng.random() < 0.35:
            colours = self._add_patches(colours, contours, raster, radius)
        if rng.random() < self.plastic:
            colours = colours * _relief(raster.alpha, self.light, rng.uniform(0.1, 0.7), radius)[..., None]
        if rng.random() < self.plastic:
            self._cast_shadow(raster, radius)
        opacity = rng.uniform(0.6, 0.9) if rng.random() < 0.08 else 1.0  # glass, smoke
        self._put(raster, colours, opacity)

    def _add_patches(self, colours: np.ndarray, contours: Contours, raster: Raster, radius: float) -> np.ndarray:
        """Parts of other surfaces on one thing (labels, clothes, windows): they are of the thing, not things."""
        rng = self.rng
        height, width = raster.hw
        vertices = contours[0][0] - [raster.left, raster.top]
        for _ in range(rng.integers(1, 4)):
            spot = vertices[rng.integers(len(vertices))] * rng.uniform(0, 1) + vertices.mean(axis=0) * rng.uniform(0, 1)
            outline = place(draw_shape(rng), radius * rng.uniform(0.15, 0.6), spot, rng)
            patch = rasterise(outline, max(height, width))
            if patch is None:
                continue
            patch = patch._replace(alpha=patch.alpha[: max(0, height - patch.top), : max(0, width - patch.left)])
            if patch.alpha.size:
                fresh = paint(self._draw_surface(), patch.hw, rng, self.scenes.textures)
                colours[patch.window] += patch.alpha[..., None] * (fresh - colours[patch.window])
        return colours

    def _cast_shadow(self, raster: Raster, radius: float) -> None:
        """Darken what lies behind, away from the light."""
        rng = self.rng
        soft = max(1, int(radius * rng.uniform(0.05, 0.25)))
        alpha = np.pad(_to_bytes(raster.alpha * 255), soft)
        alpha = np.asarray(Image.fromarray(alpha).filter(ImageFilter.BoxBlur(soft / 2)), np.float32) / 255
        away = -self.light * radius * rng.uniform(0.05, 0.4)
        left, top = raster.left - soft + int(away[0]), raster.top - soft + int(away[1])
        alpha = alpha[max(0, -top) : max(0, self.size - top), max(0, -left) : max(0, self.size - left)]
        if alpha.size:
            shadow = Raster(alpha, max(0, top), max(0, left))
            self.image[shadow.window] *= 1 - np.float32(rng.uniform(0.2, 0.7)) * alpha[..., None]

    def _paste(self, radius: float, centre: np.ndarray) -> None:
        """A cutout of a photo as a thing."""
        rng = self.rng
        photo, mask = self.scenes.cutouts[int(rng.integers(len(self.scenes.cutouts)))]
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
        colours, alpha = np.ascontiguousarray(photo[box]), mask[box].astype(np.uint8) * 255
        scale = 2 * max(radius, 0.1 * self.size) / max(alpha.shape)
        to = max(1, round(alpha.shape[1] * scale)), max(1, round(alpha.shape[0] * scale))
        colours = np.asarray(Image.fromarray(colours).resize(to, Image.Resampling.BILINEAR), np.float32)
        alpha = np.asarray(Image.fromarray(alpha).resize(to, Image.Resampling.BILINEAR), np.float32) / 255
        if rng.random() < 0.5:
            colours, alpha = colours[:, ::-1], alpha[:, ::-1]
        left, top = (centre - np.array(to) / 2).astype(int)
        inside = slice(max(0, -top), max(0, self.size - top)), slice(max(0, -left), max(0, self.size - left))
        if alpha[inside].size:
            self._put(Raster(alpha[inside], max(0, top), max(0, left)), colours[inside] * rng.normal(1, 0.1))

    def _put(self, raster: Raster, colours: np.ndarray, opacity: float = 1.0) -> None:
        """Blend over what is there; pixels covered by half or more change their owner."""
        label, window = self._new_label(), raster.window
        self.image[window] += np.float32(opacity) * raster.alpha[..., None] * (colours - self.image[window])
        self.owner[window][raster.alpha >= 0.5] = label

    def _draw_surface(self, photo_share: float = 0.5) -> Surface:
        # a large part of a photo shows things of its own, which would be one thing here: keep to small windows
        return draw_surface(self.rng, self.size, self.scenes.textures, photo_share, window=0.4)

    def _new_label(self) -> int:
        self.labels += 1
        return self.labels - 1


def _region(level: float, size: int, rng: Rng) -> Contours:
    """Everything below a line at about `level`: straight, tilted, rolling or ragged; at times upright instead."""
    x = np.linspace(-0.1, 1.1, 50) * size
    rolling = noise(1, 50, rng.uniform(5, 40), rng, octaves=4)[0] * size * rng.choice([0, 0.01, 0.05])
    y = level + (x - size / 2) * rng.normal(0, 0.12) + rolling
    outline = np.concatenate([np.stack([x, y], 1), [[1.1 * size, 1.1 * size], [-0.1 * size, 1.1 * size]]])
    return [(outline[:, ::-1] if rng.random() < 0.2 else outline, True)]


def _relief(alpha: np.ndarray, light: np.ndarray, strength: float, radius: float) -> np.ndarray:
    """Shading of a rounded body: its height is the blurred outline, its slope meets the light. (h, w), about 1."""
    small = Image.fromarray(_to_bytes(alpha * 255)).reduce(2)
    blur = ImageFilter.BoxBlur(max(1.0, radius / 6))
    rounded = small.filter(blur).filter(blur)
    height = np.asarray(rounded.resize((alpha.shape[1], alpha.shape[0]), Image.Resampling.BILINEAR), np.float32) / 255
    if min(height.shape) < 2:
        return np.ones_like(height)
    dy, dx = np.gradient(height)
    slope = -(dx * light[0] + dy * light[1]).astype(np.float32) * np.float32(radius)
    return 1 + np.float32(strength) * np.clip(slope, -1.2, 1.2)


def _scribble(image: np.ndarray, rng: Rng) -> np.ndarray:
    """Twigs, cracks, crumbs and print on the ground: there, but nothing that has a mask."""
    size = len(image)
    canvas = Image.fromarray(_to_bytes(image))
    draw = ImageDraw.Draw(canvas)
    reach = size * rng.uniform(0.005, 0.06)
    for _ in range(rng.integers(3, 40)):
        x, y = rng.uniform(0, size, 2)
        colour = image[int(y), int(x)] + rng.normal(0, 40) + rng.normal(0, 12, 3)
        fill = tuple(int(c) for c in np.clip(colour, 0, 255))
        end = rng.normal([x, y], reach)
        if rng.random() < 0.5:
            draw.line([x, y, *end, *rng.normal(end, reach)], fill=fill, width=int(rng.integers(1, 3)))
        else:
            draw.ellipse([x, y, *(np.array([x, y]) + np.abs(end - [x, y]) / 2)], fill=fill)
    return np.array(canvas, np.float32)


def _photograph(image: np.ndarray, rng: Rng) -> np.ndarray:
    """What a camera and a file do to a picture: light, contrast, colour cast, blur, noise, JPEG. uint8 (S, S, 3)."""
    size = len(image)
    if rng.random() < 0.5:
        light = noise(size, size, size / rng.uniform(0.8, 2), rng, octaves=1) * np.float32(rng.uniform(0.02, 0.2))
        image = image * (1 + light)[..., None]
    if rng.random() < 0.6:
        contrast, cast = rng.uniform(0.6, 1.25), rng.normal(1, 0.06, 3)
        image = (image - 120) * (contrast * cast).astype(np.float32) + np.float32(120 + rng.normal(0, 18))
    picture = Image.fromarray(_to_bytes(image))
    if rng.random() < 0.3:
        picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1.1)))
    if rng.random() < 0.1:  # enlarged from a small file
        small = int(size * rng.uniform(0.5, 0.9))
        picture = picture.resize((small, small), Image.Resampling.BILINEAR)
        picture = picture.resize((size, size), Image.Resampling.BICUBIC)
    if rng.random() < 0.4:
        grain = rng.standard_normal((size, size, int(rng.choice([1, 3]))), np.float32)
        picture = Image.fromarray(_to_bytes(np.asarray(picture) + grain * np.float32(rng.uniform(1, 14))))
    if rng.random() < 0.04:
        picture = picture.convert("L").convert("RGB")
    if rng.random() < 0.5:
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=int(rng.integers(30, 96)))
        picture = Image.open(file)
    return np.array(picture)


def _to_bytes(image: np.ndarray) -> np.ndarray:
    return np.clip(image + np.float32(0.5), 0, 255).astype(np.uint8)
