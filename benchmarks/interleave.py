"""Times contenders side by side: each is a process of its own, and in every round each has one turn, one after another.

Whatever else the machine does then slows all of them alike: the ratio of two turns of one round is steadier by far than
two times taken apart. While one has its turn, the others wait on stdin and use no processor.
"""

import contextlib
import json
import os
import select
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from benchmarks.case import Case, Contender
from benchmarks.contender import Memory, Turn

ROOT = Path(__file__).parents[1]


class Died(Exception):
    """A contender ended, or gave no answer in time; the message says how."""


class Mismatch(Exception):
    """Contenders that are to do the same work give different results, so there is nothing to time."""


class Player(Protocol):
    """Something that can be given a turn, and asked for its memory. Both raise Died."""

    def turn(self) -> Turn: ...

    def memory(self) -> Memory: ...


class Score(NamedTuple):
    """What one player did. died: how it ended, if it did."""

    turns: list[Turn]
    memory: Memory | None = None
    died: str | None = None


class Row(NamedTuple):
    """What is reported of one contender. Ratios are to the first one, paired by round, smaller is faster.

    wall: seconds, the least. ratio, cpu_ratio: medians; low, high: least and largest ratio. None: not measured.
    """

    rounds: int
    wall: float | None = None
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    cpu_ratio: float | None = None


class Result(NamedTuple):
    """Of one case, by contender: what was measured, and the largest difference of its outputs from the first's."""

    scores: dict[str, Score]
    rows: dict[str, Row]
    differences: dict[str, float]
    versions: dict[str, str]


class Process:
    """A contender's process, ready for turns once made. Raises Died."""

    def __init__(self, contender: Contender, case: Case, folder: Path, *, python: str, cores: int, limit: float):
        self.outputs = folder / f"outputs-{case.contenders.index(contender)}.npz"
        self._repeat, self._limit = case.repeat, limit
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  a pipe that nobody reads would fill and block
        where = f"{contender.make.__module__}:{contender.make.__qualname__}"
        arguments = [where, str(folder), json.dumps(dict(case.options)), str(self.outputs), str(cores)]
        self._process = subprocess.Popen(
            [python, "-m", "benchmarks.contender", *arguments], cwd=ROOT, env=environment(cores),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True,
        )  # fmt: skip
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._in, self._out = self._process.stdin, self._process.stdout
        try:
            self.versions = self._answer()
        except BaseException:
            self.close()
            raise

    def turn(self) -> Turn:
        return Turn(**self._ask(self._repeat))

    def memory(self) -> Memory:
        return Memory(**self._ask("memory"))

    def close(self) -> None:
        """End the process; one that does not want to is killed."""
        with contextlib.suppress(BrokenPipeError):
            self._in.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._out.close()
        self._errors.close()

    def _ask(self, question: object) -> dict:
        with contextlib.suppress(BrokenPipeError):  # then the answer will be missing
            print(question, file=self._in, flush=True)
        return self._answer()

    def _answer(self) -> dict:
        if not select.select([self._out], [], [], self._limit)[0]:
            self._process.kill()
            self._process.wait()
            raise Died(f"no answer in {self._limit:g} s")
        line = self._out.readline()
        if not line:
            raise Died(self._last_words())
        return json.loads(line)

    def _last_words(self) -> str:
        status = self._process.wait()
        how = f"killed by signal {-status}" if status < 0 else f"exit code {status}"
        self._errors.seek(0)
        errors = self._errors.read().decode(errors="replace")
        print(errors, file=sys.stderr)
        last = errors.strip().rpartition("\n")[2]
        return f"{how}: {last}" if last else how


def environment(cores: int) -> dict[str, str]:
    """For as many threads as cores; an idle OpenMP pool must sleep, or it would take the others' processors."""
    ours = {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0", "JAX_PLATFORMS": "cpu"}
    return os.environ | ours | dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(cores))


def run(case: Case, *, rounds: int, torch_python: str, cores: int, limit: float) -> Result:
    """Start the contenders one by one, compare what they give, then time them.

    A contender that dies stays in the result with how it died; the others go on. Raises Mismatch.
    """
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        if case.prepare:
            case.prepare(folder, **case.options)
        players, stillborn = {}, {}
        for contender in case.contenders:
            python = torch_python if contender.torch else sys.executable
            try:
                player = Process(contender, case, folder, python=python, cores=cores, limit=limit)
            except Died as error:
                stillborn[contender.name] = Score([], died=f"while loading: {error}")
            else:
                stack.callback(player.close)
                players[contender.name] = player
        differences = compare({name: player.outputs for name, player in players.items()}, case.tolerance)
        scores = play(players, rounds) | stillborn
    scores = {contender.name: scores[contender.name] for contender in case.contenders}
    versions = [item for player in players.values() for item in player.versions.items()]
    merged = {name: " and ".join(sorted({v for n, v in versions if n == name})) for name, _ in versions}
    return Result(scores, summarise({name: score.turns for name, score in scores.items()}), differences, merged)


def compare(files: Mapping[str, Path], tolerance: float) -> dict[str, float]:
    """Largest absolute difference of any output from the first contender's. Raises Mismatch."""
    loaded = {}
    for name, file in files.items():
        with np.load(file) as archive:
            loaded[name] = dict(archive)
    differences = {}
    for name, arrays in loaded.items():
        base = next(iter(loaded.values()))
        shapes, expected = ({key: value.shape for key, value in a.items()} for a in (arrays, base))
        if shapes != expected:
            raise Mismatch(f"{name} gives {shapes}, {next(iter(loaded))} {expected}")
        differences[name] = max(float(np.abs(arrays[key] - base[key]).max()) for key in base)
        if not differences[name] <= tolerance:  # NaN is a mismatch too
            first = next(iter(loaded))
            raise Mismatch(f"{name} differs from {first} by {differences[name]:.1e}, {tolerance:g} is allowed")
    return differences


def play(players: Mapping[str, Player], rounds: int) -> dict[str, Score]:
    """One turn of each per round, in order; last, a run of each in which its memory is measured."""
    scores = {name: Score([]) for name in players}
    for number in range(1, rounds + 1):
        for name, player in _living(players, scores):
            try:
                scores[name].turns.append(player.turn())
            except Died as error:
                scores[name] = scores[name]._replace(died=f"in round {number}: {error}")
    for name, player in _living(players, scores):
        try:
            scores[name] = scores[name]._replace(memory=player.memory())
        except Died as error:
            scores[name] = scores[name]._replace(died=f"after the rounds: {error}")
    return scores


def _living(players: Mapping[str, Player], scores: Mapping[str, Score]) -> list[tuple[str, Player]]:
    return [(name, player) for name, player in players.items() if not scores[name].died]


def summarise(turns: Mapping[str, Sequence[Turn]]) -> dict[str, Row]:
    """Rows by contender, in order; the first is what the others are compared with."""
    base = next(iter(turns.values()))
    return {name: _row(own, base) for name, own in turns.items()}


def _row(own: Sequence[Turn], base: Sequence[Turn]) -> Row:
    row = Row(len(own), min((turn.wall for turn in own), default=None))
    pairs = list(zip(own, base, strict=False))  # of the rounds that both lived through
    if not pairs:
        return row
    ratios = [mine.wall / theirs.wall for mine, theirs in pairs]
    cpu_ratio = statistics.median(mine.cpu / theirs.cpu for mine, theirs in pairs)
    return row._replace(ratio=statistics.median(ratios), low=min(ratios), high=max(ratios), cpu_ratio=cpu_ratio)
