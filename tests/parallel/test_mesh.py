import dataclasses

import jax
import pytest
from jax.sharding import AxisType

from sadist_jax.errors import BadInput
from sadist_jax.parallel.mesh import MeshSpec, make, node_size


@pytest.mark.parametrize(
    ("spec", "shape"),
    [
        (MeshSpec(), (8, 1, 1)),
        (MeshSpec(fsdp=4), (2, 4, 1)),
        (MeshSpec(data=1), (1, 8, 1)),
        (MeshSpec(data=1, fsdp=-1), (1, 8, 1)),
        (MeshSpec(data=4, fsdp=2), (4, 2, 1)),
        (MeshSpec(tensor=2), (4, 1, 2)),
        (MeshSpec(fsdp=2, tensor=2), (2, 2, 2)),
    ],
)
def test_sizes_follow_the_devices(spec, shape):
    mesh = make(spec)
    assert tuple(mesh.shape.items()) == tuple(zip(("data", "fsdp", "tensor"), shape, strict=True))
    assert mesh.axis_types == (AxisType.Auto,) * 3


def test_one_device_is_a_mesh_of_one():
    assert make(MeshSpec(), jax.devices()[:1]).size == 1


@pytest.mark.parametrize(
    "spec", [MeshSpec(fsdp=3), MeshSpec(-1, -1), MeshSpec(2, 2), MeshSpec(0), MeshSpec(-2, 4), MeshSpec(tensor=3)]
)
def test_what_does_not_fit_is_refused(spec):
    with pytest.raises(BadInput, match=r"mesh\.data.*8 device"):
        make(spec)


GIB = 2**30


def evenly(held):
    """All of the state can be cut into any number of parts."""
    return lambda parts: held * GIB // parts


@pytest.mark.parametrize(("held", "fsdp"), [(0, 1), (8, 1), (9, 2), (16, 2), (33, 8), (1000, 8)])
def test_fsdp_is_the_smallest_whose_part_of_the_state_leaves_half_of_the_memory(held, fsdp):
    assert make(MeshSpec(), held=evenly(held), memory=16 * GIB).shape["fsdp"] == fsdp


def test_where_nothing_is_enough_the_least_is_held():
    """Leaves that eight does not divide stay whole."""
    held = {1: 40, 2: 20, 4: 10, 8: 30}
    assert make(MeshSpec(), held=lambda parts: held[parts] * GIB, memory=GIB).shape["fsdp"] == 4


def test_what_is_written_down_counts_whatever_the_memory():
    assert make(MeshSpec(fsdp=2), held=evenly(1000), memory=GIB).shape["fsdp"] == 2


def test_without_a_figure_of_memory_nothing_is_cut():
    """A CPU tells none."""
    assert make(MeshSpec(), held=evenly(1000)).shape["fsdp"] == 1


@dataclasses.dataclass(frozen=True)
class Device:
    """As much of a device as the choice of a mesh looks at."""

    id: int
    process_index: int
    slice_index: int
    platform: str = "gpu"


def gpus(nodes, each, processes_a_node=1):
    """In an order that is none."""
    made = [Device(i, i * processes_a_node // each, i // each) for i in range(nodes * each)]
    return made[1::2] + made[::2]


def test_a_node_is_what_jax_says_has_a_fast_network_and_not_a_process():
    """With one process for each GPU."""
    assert node_size(gpus(2, 4, processes_a_node=4)) == 4


def test_nodes_of_gpus_are_slices_to_jax():
    """`jax.make_mesh` refuses more than one. The devices that share leaves are of one node."""
    mesh = make(MeshSpec(fsdp=4), gpus(2, 8))
    assert mesh.shape["data"] == 4
    for row in mesh.devices.reshape(-1, 4):
        assert len({device.slice_index for device in row}) == 1


@pytest.mark.parametrize(("nodes", "tensor", "fsdp"), [(3, 1, 8), (5, 1, 8), (2, 2, 4)])
def test_no_group_that_shares_leaves_spans_two_nodes(nodes, tensor, fsdp):
    found = make(MeshSpec(tensor=tensor), gpus(nodes, 8), held=evenly(1000), memory=GIB)
    assert found.shape["fsdp"] == fsdp
    assert make(MeshSpec(tensor=tensor), jax.devices(), held=evenly(1000), memory=GIB, node=2).shape["fsdp"] == (
        2 // tensor
    )


def test_devices_of_two_processes_do_not_share_samples():
    with pytest.raises(BadInput, match=r"mesh\.tensor = 2 must divide the devices of each process"):
        make(MeshSpec(tensor=2), gpus(1, 4, processes_a_node=4))
