"""Shares of a data set, runs that were cut off, images that cannot be read."""

import dataclasses
import json
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pytest

from sadist_jax.data.sample import Unreadable, unlabelled
from sadist_jax.errors import BadInput
from sadist_jax.evals.scoring import JOB, Scoring


class Mean(NamedTuple):
    image: str
    mean: float


@dataclasses.dataclass(frozen=True)
class Means:
    """The image's mean, times what predict says."""

    record: ClassVar[Any] = Mean
    scale: float = 1.0

    def update(self, sample, predict):
        return (Mean(sample.name, self.scale * predict(sample.image)),)

    def finish(self, records):
        return {"mean": float(np.mean([r.mean for r in records]))}

    def value(self, record):
        return record.mean


class Numbers:
    """Image i is i everywhere; those in `broken` cannot be read."""

    def __init__(self, count, broken=()):
        self.count, self.broken, self.read = count, broken, []

    def __len__(self):
        return self.count

    def __getitem__(self, i):
        self.read.append(i)
        if i in self.broken:
            raise Unreadable(f"{i}.png", f"{i}.png is damaged")
        return unlabelled(np.full((2, 2, 3), i, np.uint8), f"{i}.png")

    def name(self, i):
        return f"{i}.png"

    def digest(self):
        return f"numbers {self.count}"


def scoring(folder, reader, **changes):
    options = {"evaluation": Means(), "indices": tuple(range(len(reader))), "about": {"weights": "a"}}
    return Scoring(reader=reader, folder=folder, **(options | changes))


def answer(sample):
    return lambda image: float(image.mean())


def test_shares_in_any_order_give_the_records_of_one_pass(tmp_path):
    reader = Numbers(7)
    parts = [scoring(tmp_path, reader) for _ in range(3)]
    assert parts[2].run(answer, 2, 3, print) == {"done": 2, "there": 0}
    assert parts[0].missing() == 5
    assert parts[0].run(answer, 0, 3, print) == {"done": 3, "there": 0}
    assert parts[1].run(answer, 1, 3, print) == {"done": 2, "there": 0}
    assert parts[0].missing() == 0
    assert parts[0].finish()[0] == tuple(Mean(f"{i}.png", float(i)) for i in range(7))


def test_another_partition_goes_on_and_reads_nothing_twice(tmp_path):
    reader = Numbers(6)
    scoring(tmp_path, reader).run(answer, 0, 3)
    assert scoring(tmp_path, reader).run(answer, 0, 2) == {"done": 2, "there": 1}  # 0 is there; 2 and 4
    assert scoring(tmp_path, reader).run(answer) == {"done": 2, "there": 4}
    assert sorted(reader.read) == list(range(6))


def test_half_a_line_is_scored_again_and_the_next_line_is_whole(tmp_path):
    reader = Numbers(3)
    scoring(tmp_path, reader).run(answer)
    path = tmp_path / "records-0.jsonl"
    path.write_bytes(path.read_bytes()[:-9])
    assert scoring(tmp_path, reader).missing() == 1
    assert scoring(tmp_path, reader).run(answer) == {"done": 1, "there": 2}
    assert [record.mean for record in scoring(tmp_path, reader).finish()[0]] == [0, 1, 2]


def test_damaged_images_are_left_out_and_named_up_to_a_fraction(tmp_path):
    reader = Numbers(4, broken=(1,))
    with pytest.raises(BadInput, match=r"1 of 4 images cannot be read, .* 1.png is damaged"):
        scoring(tmp_path / "a", reader).run(answer)
    lenient = scoring(tmp_path / "b", reader, max_bad_fraction=0.25)
    lenient.run(answer)
    records, left_out = lenient.finish()
    assert [record.image for record in records] == ["0.png", "2.png", "3.png"]
    assert left_out == ["1.png is damaged"]


def test_the_fraction_is_of_all_shares(tmp_path):
    """Share 1 meets the damage and stops; share 0 ends well, and may not make a table of what is left."""
    reader = Numbers(4, broken=(3,))
    with pytest.raises(BadInput, match=r"3.png is damaged"):
        scoring(tmp_path, reader).run(answer, 1, 2)
    scoring(tmp_path, reader).run(answer, 0, 2)
    assert scoring(tmp_path, reader).missing() == 0
    with pytest.raises(BadInput, match=r"1 of 4 images cannot be read, .* 3.png is damaged"):
        scoring(tmp_path, reader).finish()


def test_an_answer_that_is_missing_is_no_unreadable_image(tmp_path):
    def missing(sample):
        raise Unreadable("maps/0.png", "maps/0.png does not exist")

    lenient = scoring(tmp_path, Numbers(2), max_bad_fraction=1.0)
    with pytest.raises(BadInput, match=r"maps/0.png does not exist"):
        lenient.run(missing)
    assert lenient.missing() == 2


def test_a_repaired_image_is_scored(tmp_path):
    with pytest.raises(BadInput):
        scoring(tmp_path, Numbers(4, broken=(1,))).run(answer)
    with pytest.raises(BadInput, match="1 of 4"):
        scoring(tmp_path, Numbers(4, broken=(1,))).run(answer)
    repaired = scoring(tmp_path, Numbers(4))
    assert repaired.run(answer) == {"done": 3, "there": 1}
    assert repaired.finish() == (tuple(Mean(f"{i}.png", float(i)) for i in range(4)), [])


@pytest.mark.parametrize(
    "changes", [{"about": {"weights": "b"}}, {"evaluation": Means(2.0)}, {"indices": (0, 1)}], ids=str
)
def test_the_folder_of_another_job_is_refused(tmp_path, changes):
    scoring(tmp_path, Numbers(3)).run(answer)
    with pytest.raises(BadInput, match=f"scores of another job.*{JOB}"):
        scoring(tmp_path, Numbers(3), **changes).run(answer)


def test_a_job_that_scored_nothing_may_be_mended(tmp_path):
    def broken(sample):
        raise BadInput("the weights are damaged")

    with pytest.raises(BadInput, match="weights"):
        scoring(tmp_path, Numbers(2)).run(broken)
    assert scoring(tmp_path, Numbers(2), about={"weights": "b"}).run(answer) == {"done": 2, "there": 0}


@pytest.mark.parametrize("name", [JOB, "records-0.jsonl"])
def test_damaged_files_of_a_job_are_no_traceback(tmp_path, name):
    scoring(tmp_path, Numbers(2)).run(answer)
    (tmp_path / name).write_bytes(b"\xff\xfe" + (tmp_path / name).read_bytes()[3:])
    if name == JOB:
        with pytest.raises(BadInput, match="scores of another job"):
            scoring(tmp_path, Numbers(2)).run(answer)
    else:  # the line that is damaged is scored again
        assert scoring(tmp_path, Numbers(2)).run(answer) == {"done": 1, "there": 1}


def test_records_are_lines_of_json(tmp_path):
    scoring(tmp_path, Numbers(1)).run(answer)
    assert json.loads((tmp_path / "records-0.jsonl").read_text()) == {"index": 0, "records": [["0.png", 0.0]]}
