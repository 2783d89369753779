"""How long a step takes, by a roofline: the slowest of computing, memory and network, as if they ran side by side.

    compute   operations of one device / (peak * efficiency); what is done to weights and not to rows, as by Muon, every
              device repeats
    memory    bytes of one device / bandwidth of its memory: operands and results of all products of matrices, and the
              state, read once and written once; everything else is fused into the products
    network   bytes inside nodes / fast links + bytes across nodes / network cards

Across nodes, the members of a group within one node share what the node must receive: with n members in k nodes, a ring
gives each device R bytes, of which R (k - 1) / (n - 1) come through its own network card. In an all-to-all every device
receives what is meant for it alone, R (n - n / k) / (n - 1).
"""

import dataclasses
from collections.abc import Iterable
from typing import NamedTuple

from sadist_jax.parallel.collectives import Collective
from sadist_jax.parallel.kinds import EFFICIENCY, Kind
from sadist_jax.train.program import Memory, Program
from sadist_jax.train.work import Work


class Flow(NamedTuple):
    """Bytes that one device receives in a step: over the fast links, and through its network card. times: messages."""

    inside: float
    across: float
    times: int


class Term(NamedTuple):
    """One wall of the roofline. seconds: None where it is not known; how: what was divided by what."""

    name: str
    seconds: float | None
    how: str


@dataclasses.dataclass(frozen=True)
class Forecast:
    """What is to be expected of a run.

    work: of a step on the whole batch.
    flows: by kind of collective.
    unbounded: collectives in loops of which nothing says how often they turn; each was counted once.
    step: seconds; None where a term is not known.
    """

    memory: Memory
    usable: float
    work: Work
    flows: dict[str, Flow]
    unbounded: int
    terms: tuple[Term, ...]

    @property
    def fits(self) -> bool:
        return self.memory.total <= self.usable

    @property
    def step(self) -> float | None:
        known = [term.seconds for term in self.terms if term.seconds is not None]
        return max(known) if len(known) == len(self.terms) else None


def make(kind: Kind, program: Program, whole: Work, share: Work, *, efficiency: float = EFFICIENCY) -> Forecast:
    """Of a compiled program on devices of a kind.

    whole: the step's work on the whole batch; share: on the rows of one device, with every weight whole.
    """
    found, tensor = flows(program.collectives, kind.node), dict(program.mesh).get("tensor", 1)
    terms = (
        _compute(kind, share, tensor, efficiency),
        _memory(kind, program.memory, share, tensor),
        _network(kind, found),
    )
    unbounded = sum(not one.bounded for one in program.collectives)
    return Forecast(program.memory, kind.usable, whole, found, unbounded, terms)


def flows(found: Iterable[Collective], node: int) -> dict[str, Flow]:
    """{kind of collective: what one device receives}, where `node` devices that follow one another share a node."""
    total: dict[str, Flow] = {}
    for one in found:
        across = one.received * _share_across(one, node)
        before = total.get(one.kind, Flow(0, 0, 0))
        total[one.kind] = Flow(before.inside + one.received - across, before.across + across, before.times + one.times)
    return total


def _share_across(one: Collective, node: int) -> float:
    """Share of what a device receives that comes through its own network card; a mean over the groups."""
    spans = [len({device // node for device in group}) for group in one.groups]
    if one.kind == "collective-permute":
        return sum(nodes > 1 for nodes in spans) / len(spans)
    n = one.size
    if n == 1:
        return 0.0
    if one.kind.endswith("all-to-all"):
        return sum((n - n / nodes) / (n - 1) for nodes in spans) / len(spans)
    return sum((nodes - 1) / (n - 1) for nodes in spans) / len(spans)


def _compute(kind: Kind, share: Work, tensor: int, efficiency: float) -> Term:
    """Devices along tensor are taken to divide all of it."""
    seconds = (share.narrow / kind.peak + share.wide / kind.peak32) / tensor / efficiency
    amount = f"{share.flops / tensor / 1e12:,.3g} TFLOP a device"
    how = f"{amount} at {efficiency:.0%} (assumed) of {kind.peak / 1e12:g} TFLOP/s"
    if share.wide:
        how += f", {share.wide / share.flops:.1%} of it in float32 at {kind.peak32 / 1e12:g}"
    return Term("compute", seconds, how)


def _memory(kind: Kind, memory: Memory, share: Work, tensor: int) -> Term:
    nbytes = share.nbytes / tensor + 2 * memory.arguments + memory.results
    how = (
        f"{nbytes / 1e9:,.3g} GB at {kind.bandwidth / 1e9:,g} GB/s: operands and results of all products, the state "
        "once in and once out; all else fused (assumed)"
    )
    return Term("memory", nbytes / kind.bandwidth, how)


def _network(kind: Kind, found: dict[str, Flow]) -> Term:
    inside, across = (sum(flow[i] for flow in found.values()) for i in (0, 1))
    how = f"{inside / 1e9:,.3g} GB inside nodes at {kind.inner / 1e9:g} GB/s"
    if not across:
        return Term("network", inside / kind.inner, how + ", none across")
    if kind.outer is None:
        return Term("network", None, how + f", {across / 1e9:,.3g} GB across nodes at an unknown rate")
    how += f" + {across / 1e9:,.3g} GB across at {kind.outer / 1e9:,.3g} GB/s; full rates (assumed)"
    return Term("network", inside / kind.inner + across / kind.outer, how)
