"""Writes tests/fixtures/corruptions.json: what imagecorruptions 1.1.2 makes of a photo, as mean, spread and PSNR.

That package wants OpenCV, and fails with today's scikit-image and NumPy but for the two aliases below, so it has an
environment of its own:

    python -m venv /tmp/ic && /tmp/ic/bin/pip install imagecorruptions==1.1.2 "setuptools<80"
    PYTHONPATH=. /tmp/ic/bin/python -W ignore tests/data/freeze_corruptions.py
"""

import json
from pathlib import Path

import numpy as np
import skimage.data

FROZEN = Path(__file__).parents[1] / "fixtures" / "corruptions.json"
DRAWS = 40


def photo() -> np.ndarray:
    """uint8 (96, 131, 3)."""
    return np.ascontiguousarray(skimage.data.astronaut()[60:156, 120:251])


def figures(clean: np.ndarray, damaged: np.ndarray) -> tuple[float, float, float]:
    """(mean, standard deviation, PSNR in dB against the clean picture)."""
    error = np.mean((clean.astype(np.float64) - damaged) ** 2)
    return float(damaged.mean()), float(damaged.std()), float(10 * np.log10(255**2 / error))


def main() -> None:
    import skimage.filters

    smooth = skimage.filters.gaussian
    np.float_ = np.float64  # noqa: NPY201
    import imagecorruptions
    from imagecorruptions import corruptions

    corruptions.gaussian = lambda *args, multichannel=None, **kw: smooth(
        *args, channel_axis=-1 if multichannel else None, **kw
    )
    frozen = {}
    for kind in imagecorruptions.get_corruption_names():
        frozen[kind] = []
        for severity in range(1, 6):
            found = []
            for seed in range(DRAWS):
                np.random.seed(seed)  # noqa: NPY002
                found.append(figures(photo(), imagecorruptions.corrupt(photo(), severity, kind)))
            rounded = [np.round(f(np.array(found), 0), 3).tolist() for f in (np.mean, np.std)]
            frozen[kind].append(dict(zip(("mean", "spread"), rounded, strict=True)))
    rows = ",\n".join(f"  {json.dumps(kind)}: {json.dumps(numbers)}" for kind, numbers in frozen.items())
    FROZEN.write_text(f"{{\n{rows}\n}}\n")


if __name__ == "__main__":
    main()
