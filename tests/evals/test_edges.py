import itertools
import json

import numpy as np
import pytest

from sadist_jax.data.sample import uncategorised
from sadist_jax.errors import BadInput
from sadist_jax.evals.edges import Edges, Record, average_precision, best_f, recall_at_half
from sadist_jax.evals.evaluation import merge
from tests.data.made import noise

HW = (30, 40)  # the diagonal is 50 pixels
FEW = Edges(thresholds=3, max_distance=0.04)  # thresholds 0.25, 0.5, 0.75; up to 2 pixels


def columns(**strengths):
    """Edges (30, 40) with a line of 30 pixels in each column, e.g. c11=0.9."""
    edges = np.zeros(HW, np.float32)
    for name, strength in strengths.items():
        edges[:, int(name[1:])] = strength
    return edges


def sample(*drawn, name="a.jpg"):
    return uncategorised(noise(*HW), np.array([lines > 0 for lines in drawn]).reshape(-1, *HW), name)


def scored(edges, *drawn, evaluation=FEW, name="a.jpg"):
    (record,) = evaluation.update(sample(*drawn, name=name), lambda image: edges)
    return record


def test_a_case_that_is_worked_out_by_hand():
    """Two people draw a line of 30 pixels each, at 10 and at 30. Predicted are lines at 11 (one pixel beside the first:
    found), 20 (nobody's) and 33 (three pixels beside the second: too far), weaker and weaker.

    Recall is 30 / 60 at each threshold, precision 30 / 90, 30 / 60 and 30 / 30. The best F is 2 * 0.5 * 1 / 1.5.
    """
    record = scored(columns(c11=0.9, c20=0.6, c33=0.3), columns(c10=1), columns(c30=1))
    assert record == Record("a.jpg", 60, [30, 30, 30], [90, 60, 30], [30, 30, 30])
    assert FEW.value(record) == pytest.approx(2 / 3)
    assert FEW.finish([record]) == {
        "images": 1,
        "ods": pytest.approx(2 / 3),
        "ods_threshold": 0.75,
        "ods_precision": 1.0,
        "ods_recall": 0.5,
        "ois": pytest.approx(2 / 3),
        "ois_precision": 1.0,
        "ois_recall": 0.5,
        "ap": 0.0,  # a single recall has no area
        "r50": 0.5,
    }


def test_each_person_is_matched_alone_and_anybodys_match_makes_a_pixel_right():
    one = scored(columns(c11=1), columns(c10=1), columns(c12=1))
    assert one[1:] == (60, [60] * 3, [30] * 3, [30] * 3)
    two = scored(columns(c10=1, c12=1), columns(c10=1), columns(c12=1))
    assert two[1:] == (60, [60] * 3, [60] * 3, [60] * 3)
    double = scored(columns(c10=1, c12=1), columns(c11=1))  # one line does not make two right
    assert double[1:] == (30, [30] * 3, [60] * 3, [30] * 3)


def test_a_threshold_is_part_of_what_is_above_it():
    record = scored(columns(c5=0.25, c10=0.5, c15=0.75, c20=0.2499), columns(c39=1))
    assert record.sum_p == [90, 60, 30]


def test_thick_edges_are_thinned_first():
    """Columns 9 to 11 become the middle one, a pixel shorter at both ends (a bar's corners go with its sides)."""
    record = scored(columns(c9=1, c10=1, c11=1), columns(c10=1))
    assert record.sum_p == record.count_p == record.count_r == [28] * 3


def test_the_default_is_the_benchmarks():
    """0.0075 of the diagonal of 321 x 481, 578.3, is 4.34 pixels; 99 thresholds from 0.01."""
    drawn, near, far = np.zeros((3, 321, 481), bool)
    drawn[:, 100] = near[:, 104] = far[:, 105] = True
    picture = uncategorised(noise(321, 481), drawn[None], "a.jpg")
    for edges, found in ((near, 321), (far, 0)):
        (record,) = Edges().update(picture, lambda image, edges=edges: edges * 0.5)
        assert record.count_r == [found] * 50 + [0] * 49


def test_where_there_is_nothing_to_find_or_nothing_found():
    assert FEW.update(sample(), lambda image: columns()) == ()
    nothing = np.zeros(HW)
    blank, drawn = scored(columns(c3=1), nothing), scored(nothing, columns(c3=1))
    assert blank[1:] == (0, [0] * 3, [30] * 3, [0] * 3)
    assert drawn[1:] == (30, [0] * 3, [0] * 3, [0] * 3)
    for records in ([blank], [drawn], [scored(nothing, nothing)]):
        scores = FEW.finish(records)
        assert scores["ods"] == scores["ois"] == scores["ap"] == scores["r50"] == 0
        assert FEW.value(records[0]) == 0
    assert FEW.finish([]) == {"images": 0}


def test_edges_of_another_size_are_refused():
    with pytest.raises(ValueError, match=r"a.jpg: edges have \(3, 4\) pixels, people drew on \(30, 40\)"):
        scored(np.zeros((3, 4)), columns(c3=1))


def test_options_that_mean_nothing_are_refused():
    for options in ({"thresholds": 0}, {"max_distance": -1.0}):
        with pytest.raises(BadInput, match="thresholds must be 1 or more"):
            Edges(**options)


def test_records_survive_json_and_shares_are_put_together():
    records = [scored(columns(c10=0.6, c20=0.3), columns(c10=1)), scored(columns(c5=0.9), columns(c30=1), name="b.jpg")]
    again = [FEW.record(*row) for row in json.loads(json.dumps(records))]
    assert again == records
    assert FEW.finish(merge([[records[0]], [records[1]]])) == FEW.finish(again)


def drawn_records(images, thresholds, seed):
    """Counts that fall with the threshold, as they do."""
    rng = np.random.default_rng(seed)
    records = []
    for i in range(images):
        sum_r = int(rng.integers(50, 200))
        sum_p = np.sort(rng.integers(0, 300, thresholds))[::-1]
        count_p = np.minimum.accumulate((sum_p * np.sort(rng.uniform(0.2, 1, thresholds))).astype(int))
        count_r = np.minimum.accumulate(np.minimum(sum_r, (sum_p * rng.uniform(0.1, 0.5, thresholds)).astype(int)))
        records.append(Record(f"{i}.jpg", sum_r, count_r.tolist(), sum_p.tolist(), count_p.tolist()))
    return records


def ratio(a, b):
    return a / b if b else 0.0


def fscore(r, p):
    return ratio(2 * r * p, r + p)


@pytest.mark.parametrize("seed", range(5))
def test_the_numbers_follow_from_the_counts(seed):
    """The definitions once more, image by image and threshold by threshold."""
    n = 19
    records, evaluation = drawn_records(6, n, seed), Edges(thresholds=n)
    scores = evaluation.finish(records)
    sums = [[sum(getattr(x, k)[t] for x in records) for t in range(n)] for k in ("count_r", "sum_p", "count_p")]
    everybody = sum(x.sum_r for x in records)
    r = [ratio(sums[0][t], everybody) for t in range(n)]
    p = [ratio(sums[2][t], sums[1][t]) for t in range(n)]
    between = [(a, b, k / 99) for a, b in itertools.pairwise(range(n)) for k in range(100)]
    ods = max(fscore(r[a] * (1 - s) + r[b] * s, p[a] * (1 - s) + p[b] * s) for a, b, s in between)
    assert scores["ods"] == pytest.approx(ods)
    assert ods > max(fscore(*pair) for pair in zip(r, p, strict=True)) - 1e-12
    assert scores["ods"] == pytest.approx(fscore(scores["ods_recall"], scores["ods_precision"]))
    own = [0, 0, 0, 0]
    for x in records:
        f = [fscore(ratio(x.count_r[t], x.sum_r), ratio(x.count_p[t], x.sum_p[t])) for t in range(n)]
        t = f.index(max(f))
        own = [a + b for a, b in zip(own, (x.count_r[t], x.sum_r, x.count_p[t], x.sum_p[t]), strict=True)]
        assert evaluation.value(x) == pytest.approx(max(f))
    assert scores["ois"] == pytest.approx(fscore(ratio(own[0], own[1]), ratio(own[2], own[3])))
    assert scores["ap"] == pytest.approx(area(r, p))


def area(r, p):
    """Recalls 0, 0.01, ..., 1, each between its two neighbours on the curve."""
    curve = sorted({recall: p[r.index(recall)] for recall in r}.items())
    total = 0.0
    for k in range(101):
        for (r0, p0), (r1, p1) in itertools.pairwise(curve):
            if r0 <= k / 100 < r1 or k / 100 == r1 == curve[-1][0]:
                total += (p0 + (p1 - p0) * (k / 100 - r0) / (r1 - r0)) / 100
    return total


def test_the_best_f_lies_between_thresholds():
    """From (recall, precision) = (1, 0) to (0, 1) F = 2 r p; 100 places have 49/99 and 50/99 next to the middle."""
    threshold, r, p, f = best_f(np.array([0.25, 0.75]), np.array([1.0, 0.0]), np.array([0.0, 1.0]))
    assert sorted((r, p)) == [pytest.approx(49 / 99), pytest.approx(50 / 99)]  # rounding decides which
    assert threshold == pytest.approx(0.25 + 0.5 * p)
    assert f == pytest.approx(2 * 50 * 49 / 99**2)
    assert best_f(np.array([0.5]), np.array([0.5]), np.array([1.0])) == (0.5, 0.5, 1.0, pytest.approx(2 / 3))


def test_average_precision_is_an_area():
    """A precision of 0.8 from recall 0.2 to 0.6: 41 hundredths are in it, both ends too."""
    assert average_precision(np.array([0.6, 0.2]), np.array([0.8, 0.8])) == pytest.approx(0.41 * 0.8)
    # 1 - r from 0 to 1: the sum of 0, 0.01, ..., 1 is 50.5
    assert average_precision(np.array([1.0, 0.0]), np.array([0.0, 1.0])) == pytest.approx(0.505)
    # of equal recalls the first counts
    assert average_precision(np.array([1.0, 1.0, 0.0]), np.array([0.5, 0.9, 0.5])) == pytest.approx(0.505)
    assert average_precision(np.array([0.7, 0.7]), np.array([0.8, 0.9])) == 0


def test_recall_at_a_precision_of_one_half():
    recall, precision = np.array([0.9, 0.7, 0.4]), np.array([0.4, 0.6, 0.8])
    assert recall_at_half(recall, precision) == pytest.approx(0.8)
    assert recall_at_half(recall, precision + 0.2) == pytest.approx(0.9)  # never that low: the lowest there is
    assert recall_at_half(recall, precision - 0.4) == 0  # never that high
