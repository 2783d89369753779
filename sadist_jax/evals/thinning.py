"""Thinning of binary edge maps to lines of one pixel, as MATLAB's bwmorph(edges, "thin", Inf) does it.

Source: Guo and Hall 1989, "Parallel thinning with two-subiteration algorithms", algorithm A1, in the form of Lam, Lee
and Suen 1992, p. 879, which MATLAB's manual cites. scikit-image's `morphology.thin` is the same algorithm on whole
images; here only edge pixels are looked at, a few per cent of a photo, because a benchmark thins 99 maps of each.
"""

import numpy as np

# x1, ..., x8 of the paper: east first, then against the clock; (rows down, columns right)
NEIGHBOURS = ((0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1), (1, 0), (1, 1))


def thin(edges: np.ndarray) -> np.ndarray:
    """Edges (h, w) bool -> (h, w) bool, thinned until nothing changes; around the image there are no edges.

    >>> thin(np.ones((3, 5), bool)).astype(int).tolist()
    [[0, 0, 0, 0, 0], [0, 1, 1, 1, 0], [0, 0, 0, 0, 0]]
    """
    padded = np.pad(np.asarray(edges, bool), 1)
    pixels = padded.view(np.uint8).ravel()
    steps = [down * padded.shape[1] + right for down, right in NEIGHBOURS]
    there, before = np.flatnonzero(pixels), -1
    while len(there) != before:
        before = len(there)
        for removable in _REMOVABLE:
            pattern = np.zeros(len(there), np.uint8)
            for i, step in enumerate(steps):
                pattern |= pixels[there + step] << i
            gone = removable[pattern]
            pixels[there[gone]] = 0
            there = there[~gone]
    return padded[1:-1, 1:-1]


def _removable() -> tuple[np.ndarray, np.ndarray]:
    """(256,) bool for each of the two subiterations: whether a pixel goes whose neighbours have these bits, x1 lowest.

    G1: the crossing number is 1. G2: the smaller number of neighbouring pairs with an edge is 2 or 3. G3: it lies on
    the north-east side; in the second subiteration on the south-west side.
    """
    x = (np.arange(256)[:, None] >> np.arange(8)) & 1 == 1
    x1, x2, x3, x4, x5, x6, x7, x8 = x.T
    odd, even = x[:, ::2], x[:, 1::2]
    after = np.roll(odd, -1, 1)  # x3, x5, x7, x1
    crossings = (~odd & (even | after)).sum(1)
    pairs = np.minimum((odd | even).sum(1), (even | after).sum(1))
    thick = (crossings == 1) & (pairs >= 2) & (pairs <= 3)
    return thick & ~((x2 | x3 | ~x8) & x1), thick & ~((x6 | x7 | ~x4) & x5)


_REMOVABLE = _removable()
