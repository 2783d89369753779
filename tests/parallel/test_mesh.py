import jax
import pytest
from jax.sharding import AxisType

from sadist_jax.errors import BadInput
from sadist_jax.parallel.mesh import MeshSpec, make


@pytest.mark.parametrize(
    ("spec", "shape"),
    [
        (MeshSpec(), (8, 1)),
        (MeshSpec(fsdp=4), (2, 4)),
        (MeshSpec(data=1, fsdp=-1), (1, 8)),
        (MeshSpec(data=4, fsdp=2), (4, 2)),
    ],
)
def test_sizes_follow_the_devices(spec, shape):
    mesh = make(spec)
    assert mesh.shape == {"data": shape[0], "fsdp": shape[1]}
    assert mesh.axis_types == (AxisType.Auto, AxisType.Auto)


def test_one_device_is_a_mesh_of_one():
    assert make(MeshSpec(), jax.devices()[:1]).shape == {"data": 1, "fsdp": 1}


@pytest.mark.parametrize("spec", [MeshSpec(fsdp=3), MeshSpec(-1, -1), MeshSpec(2, 2), MeshSpec(0), MeshSpec(-2, 4)])
def test_what_does_not_fit_is_refused(spec):
    with pytest.raises(BadInput, match=r"mesh\.data.*8 device"):
        make(spec)
