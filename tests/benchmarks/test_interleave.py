import itertools
import json
import types
from pathlib import Path

import numpy as np
import pytest

from benchmarks import __main__ as command
from benchmarks import contender, interleave
from benchmarks.contender import Memory, Turn
from benchmarks.interleave import Died, Mismatch, play, summarise
from tests.benchmarks import toys


def run(case, rounds, limit=120.0):
    return interleave.run(case, rounds=rounds, torch_python="unused", cores=1, limit=limit)


class Scripted:
    """Notes its turns in `calls`; dies when the walls are used up."""

    def __init__(self, name, walls, calls):
        self.name, self.walls, self.calls = name, iter(walls), calls

    def turn(self):
        self.calls.append(self.name)
        if (wall := next(self.walls, None)) is None:
            raise Died("the end")
        return Turn(wall, 2 * wall)

    def memory(self):
        self.calls.append(f"{self.name}'s memory")
        return Memory(1, 2)


def test_each_has_one_turn_in_every_round():
    calls = []
    scores = play({name: Scripted(name, itertools.repeat(1.0), calls) for name in "abc"}, 3)
    assert calls == [*"abcabcabc", "a's memory", "b's memory", "c's memory"]
    assert {name: len(score.turns) for name, score in scores.items()} == {"a": 3, "b": 3, "c": 3}


def test_the_others_go_on_when_one_dies():
    calls = []
    scores = play({"a": Scripted("a", [1.0], calls), "b": Scripted("b", itertools.repeat(1.0), calls)}, 3)
    assert calls == [*"ababb", "b's memory"]
    assert scores["a"] == ([Turn(1.0, 2.0)], None, "in round 2: the end")
    assert scores["b"] == ([Turn(1.0, 2.0)] * 3, Memory(1, 2), None)


def test_ratios_are_of_turns_of_one_round():
    """The machine is twice, then four times slower in rounds 2 and 3; the medians of the walls alone would give 1."""
    base = [Turn(1.0, 1.0), Turn(2.0, 2.0), Turn(4.0, 4.0)]
    other = [Turn(2.0, 3.0), Turn(1.0, 6.0), Turn(2.0, 4.0)]
    rows = summarise({"base": base, "other": other, "short": other[:2], "none": []})
    assert rows["base"] == (3, 1.0, 1.0, 1.0, 1.0, 1.0)
    assert rows["other"] == (3, 1.0, 0.5, 0.5, 2.0, 3.0)
    assert rows["short"] == (2, 1.0, 1.25, 0.5, 2.0, 3.0)
    assert rows["none"] == (0, None, None, None, None, None)


def test_without_the_first_there_are_times_and_no_ratios():
    assert summarise({"base": [], "other": [Turn(2.0, 1.0)]})["other"] == (1, 2.0, None, None, None, None)


def test_a_turn_is_per_repetition():
    wall, cpu, runs = iter([10.0, 13.0]), iter([5.0, 11.0]), []
    assert contender.measure(lambda: runs.append(1), 3, lambda: next(wall), lambda: next(cpu)) == Turn(1.0, 2.0)
    assert len(runs) == 3


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux only")
def test_memory_is_the_runs_own():
    mebibyte = 2**20
    large = contender.memory(lambda: np.ones(64 * mebibyte, np.uint8).sum())
    small = contender.memory(lambda: np.ones(1 * mebibyte, np.uint8).sum())
    assert 60 * mebibyte < large.peak - large.rest < 80 * mebibyte
    assert small.peak - small.rest < 16 * mebibyte


def test_processes_take_turns(tmp_path):
    log = tmp_path / "log"
    case = toys.case(log, toys.first, toys.second, toys.mortal, toys.stillborn, repeat=1)
    result = run(case, 3)

    warm = ["first"] * 2 + ["second"] * 2 + ["mortal"] * 2  # each is ready before the next is started
    rounds = ["first", "second", "mortal"] * 2 + ["first", "second"]  # the mortal dies in its second turn
    assert log.read_text().split() == [*warm, *rounds, "first", "second"]
    assert [len(score.turns) for score in result.scores.values()] == [3, 3, 1, 0]
    assert result.scores["first"].died is result.scores["second"].died is None
    assert result.scores["mortal"].died == "in round 2: exit code 3: out of lives"
    assert result.scores["stillborn"].died == "while loading: exit code 1: RuntimeError: no weights"
    assert result.differences == {"first": 0.0, "second": pytest.approx(0.0005), "mortal": 0.0}
    assert set(result.versions) == {"python"}


def test_repetitions_reach_the_process(tmp_path):
    log = tmp_path / "log"
    run(toys.case(log, toys.first, repeat=5), 2)
    assert len(log.read_text().split()) == contender.WARM + 2 * 5 + 1


def test_one_that_does_not_answer_is_ended(tmp_path):
    result = run(toys.case(tmp_path, toys.hanging), 1, limit=0.5)
    assert result.scores["hanging"].died == "while loading: no answer in 0.5 s"


@pytest.mark.parametrize("other", [toys.wrong, toys.not_a_number])
def test_different_outputs_are_not_timed(tmp_path, other):
    log = tmp_path / "log"
    with pytest.raises(Mismatch, match=f"{other.__name__} differs from first by"):
        run(toys.case(log, toys.first, other), 3)
    assert len(log.read_text().split()) == 2 * contender.WARM


def test_command_writes_tables(tmp_path, monkeypatch, capsys):
    out = tmp_path / "results"

    def module(*makes, name):
        case = toys.case(tmp_path / "log", *makes)
        return types.SimpleNamespace(cases=lambda tiny=False: [case.__class__(**(vars(case) | {"name": name}))])

    modules = module(toys.first, toys.second, name="good"), module(toys.first, toys.stillborn, name="bad")
    monkeypatch.setattr(command, "MODULES", modules)
    assert command.main(["good", "--rounds", "2", "--cores", "1", "--out", str(out)]) == 0
    assert command.main(["bad", "--rounds", "1", "--cores", "1", "--out", str(out)]) == 1

    kept = json.loads((out / "speed" / "good.json").read_text())
    assert kept["command"] == "python -m benchmarks good --rounds 2 --cores 1"
    assert len(kept["rows"]["second"]["turns"]) == 2
    page = (out / "speed.md").read_text()
    assert page.count("\n## Toys") == 2
    assert "| stillborn; died while loading: exit code 1: RuntimeError: no weights |  |  |  |  | 0 |" in page
    assert str(tmp_path) not in page
    assert "no weights" in capsys.readouterr().err

    with pytest.raises(SystemExit):
        command.main(["unknown"])
    assert "there are good, bad" in capsys.readouterr().err
