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


@pytest.mark.parametrize(
    ("held", "fsdp"),
    [(0, 1), (8 * GIB, 1), (9 * GIB, 2), (16 * GIB, 2), (33 * GIB, 8), (1000 * GIB, 8)],
)
def test_fsdp_is_the_smallest_whose_part_of_the_state_leaves_half_of_the_memory(held, fsdp):
    assert make(MeshSpec(), held=held, memory=16 * GIB).shape["fsdp"] == fsdp


def test_what_is_written_down_counts_whatever_the_memory():
    assert make(MeshSpec(fsdp=2), held=1000 * GIB, memory=GIB).shape["fsdp"] == 2


def test_without_a_figure_of_memory_nothing_is_cut():
    """A CPU tells none."""
    assert make(MeshSpec(), held=1000 * GIB).shape["fsdp"] == 1


@dataclasses.dataclass(frozen=True)
class Device:
    """As much of a device as the choice of a mesh looks at."""

    id: int
    process_index: int
    slice_index: int


def test_a_node_is_what_jax_says_has_a_fast_network_and_not_a_process():
    """With one process for each GPU."""
    assert node_size([Device(i, process_index=i, slice_index=i // 4) for i in range(8)]) == 4


def test_devices_of_two_processes_do_not_share_samples():
    with pytest.raises(BadInput, match=r"mesh\.tensor = 2 must divide the devices of each process"):
        make(MeshSpec(tensor=2), [Device(i, process_index=i, slice_index=0) for i in range(4)])
