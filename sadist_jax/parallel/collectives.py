"""What the devices of a compiled program say to each other, read from its text (`compiled.as_text()`).

    step = jax.jit(...).lower(...).compile()
    for one in collectives.find(step.as_text()):
        print(one.kind, one.times, one.received)

A loop's body counts once for each turn: `known_trip_count` is what XLA writes beside a while loop whose number of turns
it knows (it knows those of `lax.scan` and `lax.map`). Where it does not, a turn is counted once and `bounded` is False.
Of a conditional all branches count. An asynchronous pair (start, done) is one collective.

Bytes are those that one device receives with ring algorithms among n devices, for a result of B bytes on each:

    all-gather       B (n - 1) / n        its own part is there already
    all-reduce       2 B (n - 1) / n      a reduce-scatter and an all-gather
    reduce-scatter   B (n - 1)            n - 1 partial sums of the part that stays
    all-to-all       B (n - 1) / n
    others           B                    collective-permute, collective-broadcast

They are what the compiler wrote. XLA's CPU backend widens some bfloat16 collectives to float32, which GPUs and TPUs
do not.
"""

import math
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

KINDS = (
    "all-gather", "all-reduce", "reduce-scatter", "all-to-all", "ragged-all-to-all", "collective-permute",
    "collective-broadcast",
)  # fmt: skip
_COMPUTATION = re.compile(r"(?:ENTRY )?%?([\w.\-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"\s+(?:ROOT )?%?([\w.\-]+) = (.*?)\s([a-z][a-z0-9\-]*)\((.*)$")
_CALLED = re.compile(r"(?:body|condition|calls|to_apply|\w+_computations?)=(?:%?([\w.\-]+)|\{([^}]*)\})")
_TURNS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_OPERAND = re.compile(r"%([\w.\-]+)\)")
_SHAPE = re.compile(r"([a-z][a-z0-9]*)\[([\d,<=]*)\]")
_MESH = re.compile(r"mesh\[([^\]]*)\](?:, device_ids=\((.*?)\))? \{([^}]*)\}")
_PART = re.compile(r"'([^']*)'(?::\((\d+)\)(\d+))?")
_IOTA = re.compile(r"\[([\d,]+)\](?:T\(([\d,]+)\))?")


class Shape(NamedTuple):
    """An array: element type as XLA writes it (f32, bf16, pred), and its sides."""

    dtype: str
    sides: tuple[int, ...]

    @property
    def bytes(self) -> int:
        bits = 8 if self.dtype == "pred" else int(next(iter(re.findall(r"\d+", self.dtype)), 0))
        return math.ceil(math.prod(self.sides) * bits / 8)


class Collective(NamedTuple):
    """One collective instruction of a program.

    kind: one of KINDS.
    results: what it gives on each device; several where the compiler has put small ones together.
    groups: who takes part with whom, by position in the mesh's devices (row-major); for a permutation (from, to).
    times: how often a call of the program runs it.
    bounded: False where it is in a loop of which the program does not say how often it turns; such a loop counts once.
    source: the operations of JAX that it was made for, as far as XLA remembers.
    """

    kind: str
    results: tuple[Shape, ...]
    groups: tuple[tuple[int, ...], ...]
    times: int
    bounded: bool
    source: str

    @property
    def size(self) -> int:
        """Devices of a group."""
        return len(self.groups[0])

    @property
    def bytes(self) -> int:
        """Of the result on one device, once."""
        return sum(shape.bytes for shape in self.results)

    @property
    def received(self) -> float:
        """Bytes that one device receives in one call of the program: all `times`."""
        n = self.size
        share = {"all-gather": (n - 1) / n, "all-reduce": 2 * (n - 1) / n, "reduce-scatter": n - 1}
        share |= dict.fromkeys(("all-to-all", "ragged-all-to-all"), (n - 1) / n)
        return self.times * self.bytes * share.get(self.kind, 1.0)


def find(text: str) -> list[Collective]:
    """Collectives of a compiled program, in the order in which it calls them."""
    program = _Program(text)
    return list(program.walk(program.entry, 1, True))


def received(found: Iterable[Collective], *kinds: str) -> float:
    """Bytes that one device receives in one call, by those kinds, or by all."""
    return sum(one.received for one in found if not kinds or one.kind in kinds)


def times(found: Iterable[Collective], *kinds: str) -> int:
    """How many collectives of those kinds, or of all, a call runs."""
    return sum(one.times for one in found if not kinds or one.kind in kinds)


class _Program:
    """The computations of a program, by name, as lines."""

    def __init__(self, text: str):
        self.computations: dict[str, list[str]] = {}
        self.finished: dict[str, str] = {}  # start of an asynchronous pair -> type of what its end gives
        self.entry = ""
        lines: list[str] = []
        header, *rest = text.splitlines()
        self.devices = math.prod(int(n) for n in re.findall(r"(?:num_partitions|replica_count)=(\d+)", header))
        for line in rest:
            if line.endswith("{") and (match := _COMPUTATION.match(line)):
                lines = self.computations[match[1]] = []
                self.entry = match[1] if line.startswith("ENTRY") else self.entry
            elif match := _INSTRUCTION.match(line):
                lines.append(line)
                if match[3].endswith("-done") and (start := _OPERAND.search(match[4])):
                    self.finished[start[1]] = match[2]

    def walk(self, computation: str, turns: int, bounded: bool) -> Iterator[Collective]:
        for line in self.computations.get(computation, ()):
            match = _INSTRUCTION.match(line)
            assert match is not None
            name, shape, operation, rest = match.groups()
            if (kind := operation.removesuffix("-start")) in KINDS:
                results = _shapes(self.finished.get(name, shape))
                yield Collective(kind, results, self._groups(rest), turns, bounded, _source(rest))
            elif not operation.endswith(("-update", "-done")):
                known = _TURNS.search(rest) if operation == "while" else None
                inside = turns * (int(known[1]) if known else 1)
                for called in _called(rest):
                    yield from self.walk(called, inside, bounded and (operation != "while" or known is not None))

    def _groups(self, rest: str) -> tuple[tuple[int, ...], ...]:
        if "source_target_pairs=" in rest:
            return _lists(rest.partition("source_target_pairs=")[2])
        told = rest.partition("replica_groups=")[2]
        if match := _MESH.match(told):
            return _along(*match.groups())
        sides, order, ids = told.partition("<=")
        if order and (match := re.fullmatch(r"\[([\d,]+)\]", sides)):
            return _rows(_devices(ids).reshape(_integers(match[1])))
        if not told or told.startswith("{}"):
            return (tuple(range(self.devices)),)
        if not told.startswith("{{"):
            raise ValueError(f"replica groups of an unknown form: {told[:60]}")
        return _lists(told)


def _along(mesh: str, order: str | None, axes: str) -> tuple[tuple[int, ...], ...]:
    """mesh['x'=2,'y'=8], device_ids=(...) {'y':(2)4}: groups along the last 4 of y = 2 * 4 * 1."""
    sizes = {name: int(size) for name, size in re.findall(r"'([^']*)'=(\d+)", mesh)}
    devices = np.arange(math.prod(sizes.values())) if order is None else _devices(order)
    last: list[int] = []
    sides: list[int] = []
    parts = {name: (int(before or 1), int(size or sizes[name])) for name, before, size in _PART.findall(axes)}
    for name, size in sizes.items():
        before, along = parts.get(name, (size, 1))
        if name in parts:
            last.append(len(sides) + 1)
        sides += [before, along, size // (before * along)]
    devices = np.moveaxis(devices.reshape(sides), last, range(-len(last), 0))
    return _rows(devices.reshape(-1, math.prod(along for _, along in parts.values())))


def _devices(text: str) -> np.ndarray:
    """'[2,4]T(1,0)' -> 0 4 1 5 2 6 3 7: counted in rows of 4, read by columns; or the numbers themselves."""
    if match := _IOTA.match(text):
        sides = _integers(match[1])
        return (
            np.arange(math.prod(sides)).reshape(sides).transpose(_integers(match[2]) if match[2] else None).reshape(-1)
        )
    return np.array(_integers(text))


def _integers(text: str) -> list[int]:
    return [int(n) for n in text.split(",")]


def _rows(groups: np.ndarray) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(row) for row in groups.tolist())


def _lists(text: str) -> tuple[tuple[int, ...], ...]:
    """'{{0,1},{2,3}}, ...' -> ((0, 1), (2, 3))."""
    inner = re.findall(r"\{([\d,]+)\}", text.partition("}}")[0] + "}")
    return tuple(tuple(int(n) for n in part.split(",")) for part in inner)


def _called(rest: str) -> list[str]:
    names = [one or many for one, many in _CALLED.findall(rest)]
    return [name.strip().lstrip("%") for group in names for name in group.split(",")]


def _shapes(text: str) -> tuple[Shape, ...]:
    sides = lambda numbers: tuple(int(n.lstrip("<=")) for n in numbers.split(",") if n)  # noqa: E731
    return tuple(Shape(dtype, sides(numbers)) for dtype, numbers in _SHAPE.findall(text))


def _source(rest: str) -> str:
    match = re.search(r'op_name="([^"]*)"', rest)
    return match[1] if match else ""
