"""Which pixels of two edge maps correspond: one to one, not too far apart, and as near as can be.

Source: Martin, Fowlkes and Malik 2004, "Learning to detect natural image boundaries using local brightness, color, and
texture cues", appendix, and `correspondPixels` of their benchmark. Two pixels may be matched up to a distance; a match
costs their distance, in whole hundredths of a pixel, and saves 100 times the largest one; the cheapest matching counts.
It has as many matches as there can be, unless gaining another one would move 99 others.

The benchmark's own solver lets each pixel go without a match only along six connections, drawn at random, so it may
miss a match or a distance; this one misses none. Many matchings cost the same, on a grid: there the benchmark's draws
decide, here others, always the same. (The first of equals would not do: it prefers the same pixels for every person,
and fewer pixels would be confirmed by anybody.)
"""

import math

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import min_weight_full_bipartite_matching

WORTH = 100.0  # of a match, times the largest distance: correspondPixels' outlierCost
HUNDREDTHS = 100  # of a pixel, in which costs are counted: its multiplier
TIE = 1e-6  # hundredths: what is drawn for each pair; together less than one, so that only equals are decided


def match(a: np.ndarray, b: np.ndarray, largest: float) -> tuple[np.ndarray, np.ndarray]:
    """Pixels of the edge maps `a` and `b`, (h, w) bool, that have a match in the other one: two maps (h, w) bool.

    largest: distance in pixels up to which pixels may be matched.

    >>> a, b = np.array([[1, 0, 0, 0, 1]], bool), np.array([[0, 1, 0, 0, 0]], bool)
    >>> [x.astype(int).tolist() for x in match(a, b, 1.0)]
    [[[1, 0, 0, 0, 0]], [[0, 1, 0, 0, 0]]]
    """
    there, here = np.flatnonzero(a), np.flatnonzero(b)
    i, j, cost = _near(there, here, a.shape, largest)
    found = np.zeros(a.size, bool), np.zeros(b.size, bool)
    if len(i):
        (some, i), (others, j) = _renumbered(i, len(there)), _renumbered(j, len(here))
        rows, columns = _cheapest((len(others), len(some)), j, i, cost, HUNDREDTHS * WORTH * largest)
        found[0][there[some[columns]]] = found[1][here[others[rows]]] = True
    return found[0].reshape(a.shape), found[1].reshape(b.shape)


def _near(
    there: np.ndarray, here: np.ndarray, shape: tuple[int, ...], largest: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All pairs that may be matched: their numbers among the flat positions `there` and `here`, and their costs."""
    height, width = shape
    reach = math.floor(largest)
    down, right = np.mgrid[-reach : reach + 1, -reach : reach + 1].reshape(2, -1)
    close = down**2 + right**2 <= largest**2
    down, right = down[close], right[close]
    wide = width + 2 * reach  # of a frame that no step leaves
    positions = [(flat // width + reach) * wide + flat % width + reach for flat in (there, here)]
    number = np.full((height + 2 * reach) * wide, -1, np.int32)
    number[positions[1]] = np.arange(len(here))
    others = number[positions[0][:, None] + (down * wide + right)]
    i, step = np.nonzero(others >= 0)
    return i, others[i, step], np.rint(HUNDREDTHS * np.hypot(down, right))[step]


def _renumbered(numbers: np.ndarray, many: int) -> tuple[np.ndarray, np.ndarray]:
    """(those of 0 .. many - 1 that occur, the place of each number among them)."""
    occurs = np.zeros(many, bool)
    occurs[numbers] = True
    return np.flatnonzero(occurs), (np.cumsum(occurs) - 1)[numbers]


def _cheapest(
    shape: tuple[int, int], row: np.ndarray, column: np.ndarray, cost: np.ndarray, worth: float
) -> tuple[np.ndarray, np.ndarray]:
    """The cheapest matching of a bipartite graph where a match costs `cost` and saves `worth`: its rows and columns.

    Each row gets a column of its own to go without a match, for `worth`; so there is always a matching of all rows.
    """
    rows, columns = shape
    own = np.arange(rows)
    cost = cost + TIE * np.random.default_rng(0).random(len(cost))
    costs = np.concatenate([cost, np.full(rows, worth)]) + 1  # SciPy takes a cost of 0 for no edge
    edges = np.concatenate([row, own]), np.concatenate([column, columns + own])
    graph = csr_array((costs, edges), shape=(rows, columns + rows))
    matched, partner = min_weight_full_bipartite_matching(graph)
    real = partner < columns
    return matched[real], partner[real]
