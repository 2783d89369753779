"""The weather of `data/corruptions.py`: snow, frost and fog. Values are 0..255."""

import numpy as np

from sadist_jax.data import blurs

_GREY = np.array([0.299, 0.587, 0.114], np.float32)  # BT.601, RGB
_WIBBLE = 100.0  # of the fog's first step, squared
_STEEPNESS = 2.25  # of the frost: its power falls with frequency to this power (ours, near that of the photos)
# Mean colour and standard deviation of the five photos that the benchmark draws from; two of them are one picture.
_FROST = (
    ((78, 149, 166), 19),
    ((201, 205, 214), 22),
    ((201, 205, 214), 22),
    ((138, 153, 165), 29),
    ((112, 123, 135), 43),
)


def snow(
    image: np.ndarray,
    mean: float,
    spread: float,
    size: float,
    threshold: float,
    radius: int,
    sigma: float,
    kept: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """(H, W, 3) uint8 -> float: whitened by 1 - kept, then flakes, and the same flakes turned by half a turn.

    Flakes are normal noise of `mean` and `spread` (of 1), enlarged by `size`, what is below `threshold` taken away,
    and blurred by falling, at most 45 degrees from straight down.
    """
    height, width, _ = image.shape
    flakes = blurs.enlarge(rng.normal(mean, spread, (height, width)).astype(np.float32), size)
    flakes = np.clip(np.where(flakes < threshold, 0, flakes), 0, 1)
    flakes = np.rint(255 * blurs.motion(flakes, radius, sigma, rng.uniform(-135, -45)))
    colour = image.astype(np.float32)
    white = np.maximum(colour, 1.5 * (colour @ _GREY)[..., None] + 127.5)
    return kept * colour + (1 - kept) * white + (flakes + flakes[::-1, ::-1])[..., None]


def frost(image: np.ndarray, kept: float, share: float, rng: np.random.Generator) -> np.ndarray:
    """(H, W, 3) uint8 -> float: kept * picture + share * frost."""
    return kept * image.astype(np.float32) + share * draw_frost(image.shape[:2], rng)


def fog(image: np.ndarray, thickness: float, decay: float, rng: np.random.Generator) -> np.ndarray:
    """(H, W, 3) uint8 -> float: a plasma of 0..255 `thickness` added, and all scaled so that the brightest stays."""
    height, width, _ = image.shape
    cloud = plasma(1 << (max(height, width) - 1).bit_length(), decay, rng)[:height, :width, None]
    brightest = float(image.max())
    scale = brightest / (brightest + 255 * thickness)
    return (image.astype(np.float32) + 255 * thickness * cloud) * scale


def plasma(side: int, decay: float, rng: np.random.Generator) -> np.ndarray:
    """(side, side) float32 in 0..1, of a power of two, periodic: the diamond-square algorithm.

    Each middle of a square, then of an edge, is the mean of its four neighbours plus uniform noise, which shrinks by
    decay squared whenever the squares are halved. The smaller decay, the rougher the field.
    """
    field = np.zeros((side, side), np.float32)
    step, reach = side, _WIBBLE**2

    def mean(*neighbours: np.ndarray) -> np.ndarray:
        return sum(neighbours) / np.float32(4) + rng.uniform(-reach, reach, neighbours[0].shape).astype(np.float32)

    while step >= 2:
        half = step // 2
        corner = field[::step, ::step].copy()
        right, below = np.roll(corner, -1, 1), np.roll(corner, -1, 0)
        middle = mean(corner, right, below, np.roll(below, -1, 1))
        field[half::step, half::step] = middle
        field[::step, half::step] = mean(corner, right, middle, np.roll(middle, 1, 0))
        field[half::step, ::step] = mean(corner, below, middle, np.roll(middle, 1, 1))
        step, reach = half, reach / decay**2
    field -= field.min()
    return field / field.max()


def draw_frost(hw: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """(H, W, 3) float32 in 0..255: drawn ice in place of the benchmark's photos, with their colour and contrast (ours).

    Clouds of noise, plus bright needles where a second such field is near zero.
    """
    colour, spread = _FROST[rng.integers(len(_FROST))]
    ice = _cloud(hw, rng) - 1.5 * np.abs(_cloud(hw, rng))
    ice = (ice - ice.mean()) / ice.std()
    return np.clip(np.array(colour, np.float32) + spread * ice[..., None], 0, 255)


def _cloud(hw: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """(H, W) float32 of mean 0 and standard deviation 1."""
    frequency = np.hypot(np.fft.fftfreq(hw[0])[:, None], np.fft.rfftfreq(hw[1]))
    frequency[0, 0] = np.inf
    field = np.fft.irfft2(np.fft.rfft2(rng.normal(size=hw)) * frequency ** (-_STEEPNESS / 2), hw)
    return (field / field.std()).astype(np.float32)
