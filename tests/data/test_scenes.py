"""Scenes: a pure function of (seed, index) with masks that are exact."""

import pickle

import numpy as np
import pytest

from sadist_jax.data import scenes
from sadist_jax.data.scene_shapes import Raster, draw_shape, place, rasterise
from sadist_jax.data.scene_textures import alike, draw_surface, noise, paint
from sadist_jax.data.scenes import Scenes
from sadist_jax.errors import BadInput


def photo(seed, height=60, width=80):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def drawn():
    return [Scenes(size=96, seed=3).scene(i) for i in range(40)]


def test_a_scene_is_a_function_of_seed_and_index(drawn):
    again = pickle.loads(pickle.dumps(Scenes(size=96, seed=3)))
    for i in (7, 0, 39):
        image, masks = again.scene(np.int64(i))
        np.testing.assert_array_equal(image, drawn[i][0])
        np.testing.assert_array_equal(masks, drawn[i][1])
    assert len({image.tobytes() for image, _ in drawn}) == 40
    assert (Scenes(size=96, seed=4).scene(0)[0] != drawn[0][0]).any()


def test_masks_are_visible_parts(drawn):
    for image, masks in drawn:
        assert image.shape == (96, 96, 3)
        assert image.dtype == np.uint8
        assert masks.shape[1:] == (96, 96)
        assert masks.dtype == bool
        assert len(masks) <= 12
        assert masks.sum(axis=0).max(initial=0) <= 1  # of two things, one is in front
        assert (masks.sum(axis=(1, 2)) >= 20).all()


def test_scenes_are_varied(drawn):
    counts = [len(masks) for _, masks in drawn]
    assert min(counts) <= 4
    assert max(counts) >= 10
    assert len(set(counts)) >= 6
    areas = np.concatenate([masks.mean(axis=(1, 2)) for _, masks in drawn])
    assert np.mean(areas < 0.01) > 0.1
    assert np.mean(areas > 0.1) > 0.1
    brightness = [image.mean() for image, _ in drawn]
    assert np.std(brightness) > 20


def test_few_pixels_are_no_instance():
    keep = Scenes(size=96, seed=3, min_pixels=1)
    drop = Scenes(size=96, seed=3, min_pixels=200)
    for i in range(10):
        (same, everything), (image, large) = keep.scene(i), drop.scene(i)
        np.testing.assert_array_equal(image, same)
        np.testing.assert_array_equal(large, everything[everything.sum(axis=(1, 2)) >= 200])


def test_masks_are_the_pixels_that_were_painted(monkeypatch):
    """Every surface one flat colour of its own and a camera that does nothing: masks follow from the picture."""
    colours = []

    def paint_flat(surface, hw, rng, photos=()):
        colours.append(np.float32([40 * (len(colours) % 6), 40 * (len(colours) // 6 % 6), 200]))
        return np.broadcast_to(colours[-1], (*hw, 3)).copy()

    canvas_class = scenes._Canvas
    monkeypatch.setattr(scenes, "paint", paint_flat)
    monkeypatch.setattr(scenes, "_photograph", lambda image, rng: image)
    monkeypatch.setattr(scenes, "_scribble", lambda image, rng: image)
    monkeypatch.setattr(scenes, "_relief", lambda alpha, *_: np.ones_like(alpha))
    monkeypatch.setattr(scenes.ImageFilter, "GaussianBlur", lambda radius: scenes.ImageFilter.BoxBlur(0))
    monkeypatch.setattr(canvas_class, "_cast_shadow", lambda *_: None)
    monkeypatch.setattr(canvas_class, "_add_patches", lambda self, colours, *_: colours)
    checked = 0
    for i in range(12):
        colours.clear()
        image, masks = Scenes(size=96, seed=5).scene(i)
        for mask in masks:
            inside = image[mask]
            pure = (inside[:, None] == np.array(colours)).all(axis=2)
            most = pure.sum(axis=0).argmax()
            if pure[:, most].mean() < 0.5:  # a thin thing is all edge, and glass has no pure colour
                continue
            checked += 1
            elsewhere = (image[~mask] == colours[most]).all(axis=1)
            assert not elsewhere.any()
            # no pixel of the mask shows another surface's pure colour
            assert not np.delete(pure, most, axis=1).any()
    assert checked > 40


def test_photos_lend_surfaces():
    red = np.zeros((50, 50, 3), np.uint8)
    red[..., 0] = 255
    plain, photos = Scenes(size=64, seed=1), Scenes(size=64, seed=1, textures=[red])

    def redness(source):
        images = np.stack([source.scene(i)[0] for i in range(20)]).astype(float)
        return (images[..., 0] > images[..., 1:].max(axis=-1) + 100).mean()

    assert redness(photos) > redness(plain) + 0.2


def test_cutouts_are_pasted_with_their_outline():
    pink = np.zeros((40, 30, 3), np.uint8)
    pink[...] = (255, 0, 255)
    y, x = np.mgrid[:40, :30]
    disc = (x - 15) ** 2 + (y - 20) ** 2 < 140
    pink[~disc] = 0
    canvas = scenes._Canvas(Scenes(size=64, cutouts=[(pink, disc)]), np.random.default_rng(0))
    canvas._paste(16, np.array([30, 30]))
    mask = canvas.owner == 0
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    assert abs(np.ptp(rows) + 1 - 32) <= 1  # 2 * radius across
    assert abs(np.ptp(columns) + 1 - 32) <= 1
    expected = disc.sum() * (32 / 23) ** 2  # the disc is 23 pixels across
    assert abs(mask.sum() - expected) < 0.03 * expected
    bright = canvas.image[..., 0] > 0.5 * canvas.image[..., 0].max()
    assert (bright ^ mask).sum() < 0.1 * mask.sum()


def test_things_beyond_the_frame_leave_no_trace():
    canvas = scenes._Canvas(Scenes(size=64, cutouts=[(photo(0), np.ones((60, 80), bool))]), np.random.default_rng(0))
    canvas._paste(10, np.array([-100, 30]))
    canvas._paste(10, np.array([30, 200]))
    assert not canvas.image.any()
    assert (canvas.owner == -1).all()
    canvas.image[:] = 100
    canvas.light = np.array([-1.0, -1.0])
    corner = Raster(np.ones((2, 2), np.float32), 62, 62)
    for _ in range(50):
        canvas._cast_shadow(corner, 40)


@pytest.mark.parametrize("size", [16, 33, 300])
def test_any_size_with_everything(size):
    source = Scenes(size, 0, 5, textures=[photo(0), photo(1, 300, 7)], cutouts=[(photo(2), photo(2)[..., 0] > 99)])
    for i in range(5):
        image, masks = source.scene(i)
        assert image.shape == (size, size, 3)
        assert masks.shape[1:] == (size, size)


def test_scenes_are_a_reader():
    source = Scenes(size=64, seed=2, count=3)
    assert len(source) == 3
    sample = source[1]
    image, masks = source.scene(1)
    np.testing.assert_array_equal(sample.image, image)
    np.testing.assert_array_equal(sample.masks, masks)
    assert not sample.image.flags.writeable
    assert not sample.iscrowd.any()
    assert (sample.category == -1).all()
    assert len(sample.iscrowd) == len(sample.category) == len(masks)
    assert sample.name == source.name(1) != source.name(2)
    for index in (3, -1):
        with pytest.raises(IndexError):
            source[index]


def test_the_digest_tells_scenes_apart():
    plain = Scenes(size=64)
    assert plain.digest() == Scenes(size=64).digest()
    others = [
        Scenes(size=65),
        Scenes(size=64, seed=1),
        Scenes(size=64, count=5),
        Scenes(size=64, min_pixels=5),
        Scenes(size=64, textures=[photo(0)]),
        Scenes(size=64, textures=[photo(1)]),
        Scenes(size=64, cutouts=[(photo(0), np.ones((60, 80), bool))]),
    ]
    assert len({s.digest() for s in [plain, *others]}) == 8


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"size": 8}, "size >= 16"),
        ({"seed": -1}, "seed >= 0"),
        ({"objects": (5, 3)}, "fewest <= most"),
        ({"textures": [np.zeros((5, 5))]}, "uint8"),
        ({"textures": [np.zeros((0, 5, 3), np.uint8)]}, "uint8"),
        ({"cutouts": [(np.zeros((5, 5, 3), np.uint8), np.zeros((5, 5), bool))]}, "not empty"),
        ({"cutouts": [(np.zeros((5, 5, 3), np.uint8), np.ones((4, 5), bool))]}, "not empty"),
    ],
)
def test_wrong_arguments_are_bad_input(wrong, says):
    with pytest.raises(BadInput, match=says):
        Scenes(**wrong)


def test_coverage_of_a_triangle_is_its_area():
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:64, :64] + 0.5
    for _ in range(20):
        a, b, c = rng.uniform(4, 60, (3, 2))
        raster = rasterise([(np.array([a, b, c]), True)], 64)
        edges = ((a, b), (b, c), (c, a))
        area = abs(np.cross([*(b - a), 0], [*(c - a), 0])[2]) / 2
        outline = sum(np.hypot(*(p - q)) for p, q in edges)
        # Pillow's polygons include their border: up to half a fine pixel (1/8 px) along the outline
        assert abs(raster.alpha.sum() - area) < 0.2 * outline + 1
        distance = [((q[0] - p[0]) * (y - p[1]) - (q[1] - p[1]) * (x - p[0])) / np.hypot(*(q - p)) for p, q in edges]
        # how far inside of all three edges, whichever way round they go
        inside = np.maximum(np.minimum.reduce(distance), np.minimum.reduce([-d for d in distance]))
        full = np.zeros((64, 64), np.float32)
        full[raster.window] = raster.alpha
        assert (full >= 0.5)[inside > 0.5].all()
        assert not (full >= 0.5)[inside < -0.5].any()


def test_rasters_outside_are_none_and_holes_are_cut():
    square = np.array([[10.0, 10], [30, 10], [30, 30], [10, 30]])
    assert rasterise([(square + 100, True)], 64) is None
    assert rasterise([(square - 100, True)], 64) is None
    raster = rasterise([(square, True), (square * 0.5 + 10, False)], 64)
    assert raster.alpha[20 - raster.top, 20 - raster.left] == 0
    assert raster.alpha[12 - raster.top, 12 - raster.left] == 1


def test_soft_edges_keep_half_coverage_in_place():
    square = np.array([[10.0, 10], [30, 10], [30, 30], [10, 30]])
    sharp, soft = (rasterise([(square, True)], 64, soft) for soft in (0.0, 1.5))
    masks = np.zeros((2, 64, 64), bool)
    for mask, raster in zip(masks, (sharp, soft), strict=True):
        mask[raster.window] = raster.alpha >= 0.5
    assert (masks[0] ^ masks[1]).sum() <= 8  # corners are rounded off
    assert ((soft.alpha > 0.05) & (soft.alpha < 0.95)).sum() > ((sharp.alpha > 0.05) & (sharp.alpha < 0.95)).sum()


def test_shapes_fill_about_their_radius():
    rng = np.random.default_rng(0)
    for _ in range(200):
        contours = place(draw_shape(rng), 20, np.array([64, 64]), rng)
        points = np.concatenate([p for p, fill in contours if fill])
        assert np.isfinite(points).all()
        assert 8 < np.ptp(points, axis=0).max() < 250


def test_surfaces_have_the_asked_size_and_finite_colours():
    rng = np.random.default_rng(0)
    for i in range(150):
        surface = draw_surface(rng, 64, [photo(0)] if i % 2 else ())
        for hw in ((1, 1), (3, 50), (40, 30)):
            colours = paint(alike(surface, rng), hw, rng, [photo(0)])
            assert colours.shape == (*hw, 3)
            assert colours.dtype == np.float32
            assert np.isfinite(colours).all()
            assert colours.min() > -300
            assert colours.max() < 600


def test_noise_is_standardised_and_smooth():
    rng = np.random.default_rng(0)
    fields = np.stack([noise(128, 128, 16, rng, octaves=octaves) for octaves in (1, 2, 4) for _ in range(10)])
    assert abs(fields.mean()) < 0.1
    assert 0.75 < fields.std() < 1.3
    coarse = noise(128, 128, 32, rng, octaves=1)
    assert np.abs(np.diff(coarse, axis=0)).mean() < 0.15
