"""The roofline by hand."""

import dataclasses

import pytest

from sadist_jax.parallel.collectives import Collective, Shape
from sadist_jax.parallel.kinds import Kind
from sadist_jax.train import forecast
from sadist_jax.train.forecast import Flow
from sadist_jax.train.program import Memory, Program
from sadist_jax.train.work import Work

GB = 10**9
KIND = Kind(
    "round",
    "gpu",
    peak=100e12,
    peak32=50e12,
    memory=12 * GB,
    usable=10 * GB,
    bandwidth=1000 * GB,
    node=4,
    inner=100 * GB,
    outer=10 * GB,
)
TWO_NODES = (tuple(range(8)),)


def message(kind, groups, size, times=1, bounded=True) -> Collective:
    return Collective(kind, (Shape("f32", (size // 4,)),), groups, times, bounded, "")


def program(*messages, memory=(4 * GB, 3 * GB, 1 * GB)) -> Program:
    return Program("by hand", (("data", 8), ("fsdp", 1)), Memory(*memory), messages, 0.0)


def seconds(expected) -> dict[str, float | None]:
    return {term.name: term.seconds for term in expected.terms}


def test_the_slowest_wall_is_the_step():
    """A device of 8 has 40e12 operations at 100e12/s and 10e12 at 50e12/s, at half the peak: 1.2 s."""
    found = program(message("all-reduce", TWO_NODES, 8 * GB))
    whole, share = Work(narrow=320 * 10**12, wide=80 * 10**12), Work(40 * 10**12, 10 * 10**12, 91 * GB)
    expected = forecast.make(KIND, found, whole, share, efficiency=0.5)
    # memory: 91 GB of products, 2 x 4 GB of state, 1 GB of results
    # network: 14 GB received, of which 8 GB through four cards: each node must have the other's sum, and give its own
    assert seconds(expected) == pytest.approx({"compute": 1.2, "memory": 0.1, "network": 0.12 + 0.2})
    assert expected.step == pytest.approx(1.2)
    assert expected.memory.total == 8 * GB
    assert expected.fits
    assert not forecast.make(KIND, program(memory=(4 * GB, 5 * GB, 2 * GB)), whole, share).fits


def test_devices_along_tensor_divide_the_work_and_its_bytes():
    """The state's bytes are of one device as they are."""
    cut = dataclasses.replace(program(), mesh=(("data", 4), ("tensor", 2)))
    share = Work(40 * 10**12, 10 * 10**12, 80 * GB)
    expected = forecast.make(KIND, cut, Work(1, 1), share, efficiency=0.5)
    assert seconds(expected) == pytest.approx({"compute": 0.6, "memory": 0.049, "network": 0})


@pytest.mark.parametrize(
    ("kind", "size", "inside", "across"),
    [
        # what a node lacks, half of 8 GB, comes through its four cards; the rest of 7/8 of 8 GB over NVLink
        ("all-gather", 8 * GB, 6 * GB, 1 * GB),
        ("all-reduce", 8 * GB, 12 * GB, 2 * GB),
        # seven parts of 1 GB: of the four sums that a node keeps, the other node's share comes once, 4 GB in four cards
        ("reduce-scatter", 1 * GB, 6 * GB, 1 * GB),
        # 1 GB from each of three neighbours and of four strangers
        ("all-to-all", 8 * GB, 3 * GB, 4 * GB),
    ],
)
def test_what_crosses_nodes(kind, size, inside, across):
    assert forecast.flows([message(kind, TWO_NODES, size, times=3)], node=4) == {
        kind: pytest.approx(Flow(3 * inside, 3 * across, 3))
    }
    everywhere = forecast.flows([message(kind, TWO_NODES, size)], node=8)[kind]
    assert (everywhere.inside, everywhere.across) == pytest.approx((inside + across, 0))


def test_groups_inside_nodes_stay_there():
    inside = ((0, 1, 2, 3), (4, 5, 6, 7))
    across = ((0, 4), (1, 5), (2, 6), (3, 7))
    found = forecast.flows([message("all-gather", inside, 4 * GB), message("all-gather", across, 4 * GB)], node=4)
    assert found == {"all-gather": Flow(3 * GB, 2 * GB, 2)}


def test_neighbours_that_send_in_a_ring():
    ring = tuple((i, (i + 1) % 8) for i in range(8))  # 3 -> 4 and 7 -> 0 cross
    assert forecast.flows([message("collective-permute", ring, 8 * GB)], node=4) == {
        "collective-permute": Flow(6 * GB, 2 * GB, 1)
    }


def test_what_is_not_known_stays_unknown():
    kind = Kind("v", "tpu", 1e12, 1e12, GB, GB, GB, 4, GB, None)
    found = program(message("all-reduce", TWO_NODES, 8, bounded=False))
    expected = forecast.make(kind, found, Work(), Work())
    assert seconds(expected)["network"] is None
    assert expected.step is None
    assert expected.unbounded == 1
    assert forecast.make(dataclasses.replace(kind, node=8), found, Work(), Work()).step is not None
