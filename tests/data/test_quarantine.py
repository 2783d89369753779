import json
import threading

import pytest

from sadist_jax.data.quarantine import Quarantine
from sadist_jax.data.sample import Unreadable
from sadist_jax.errors import BadInput


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_sample_is_listed_once_with_its_reason(tmp_path):
    path = tmp_path / "run" / "bad.jsonl"
    for _ in range(2):
        Quarantine(str(path), 0.5).add("ö 1.png", Unreadable("/d/ö 1.png", "is damaged"), 10)
    assert read(path) == [{"sample": "ö 1.png", "path": "/d/ö 1.png", "reason": "is damaged"}]


def test_the_fraction_counts_distinct_samples_of_this_run_and_earlier_ones(tmp_path):
    path = tmp_path / "bad.jsonl"
    for i in range(3):
        Quarantine(str(path), 0.3).add(f"{i}.png", Unreadable(f"{i}.png", "cut"), 10)
    with pytest.raises(BadInput, match=r"4 of 10 samples .*max_bad_fraction=0.3 .*9.png is cut.*bad.jsonl"):
        Quarantine(str(path), 0.3).add("9.png", Unreadable("9.png", "9.png is cut"), 10)
    assert len(read(path)) == 4


def test_fraction_zero_stops_at_the_first(tmp_path):
    with pytest.raises(BadInput, match="1 of 1000 samples"):
        Quarantine(str(tmp_path / "bad.jsonl"), 0).add("a", Unreadable("a", "a is cut"), 1000)


def test_a_line_cut_by_a_crash_does_no_harm(tmp_path):
    path = tmp_path / "bad.jsonl"
    path.write_text('{"sample": "a", "path": "a", "reason": "x"}\n{"sample": "b", "pa')
    quarantine = Quarantine(str(path), 1)
    quarantine.add("c", Unreadable("c", "x"), 10)
    assert quarantine.samples() == {"a", "c"}


def test_lines_of_several_writers_do_not_mix(tmp_path):
    quarantine = Quarantine(str(tmp_path / "bad.jsonl"), 1)
    names = [f"{i} " + "x" * 500 for i in range(40)]
    jobs = [threading.Thread(target=quarantine.add, args=(n, Unreadable(n, "r" * 2000), 100)) for n in names]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    assert {line["sample"] for line in read(tmp_path / "bad.jsonl")} == set(names)


@pytest.mark.parametrize("fraction", [-0.1, 1.1, float("nan")])
def test_an_impossible_fraction_is_refused(fraction):
    with pytest.raises(BadInput, match="max_bad_fraction"):
        Quarantine("x", fraction)
