"""Meshes: made here and nowhere else, with the axis types written out."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh

from sadist_jax.errors import BadInput

AXES = ("data", "fsdp")


@dataclasses.dataclass(frozen=True)
class MeshSpec:
    """How many devices along each axis; -1 (for one of the two) takes what is left.

    Every sample goes to one device of data x fsdp; large leaves are cut along fsdp and repeated along data.
    """

    data: int = -1
    fsdp: int = 1


def make(spec: MeshSpec, devices: Sequence[Any] | None = None) -> Mesh:
    """Mesh ('data', 'fsdp') over all devices of all hosts, or over those given; one device is a mesh of one.

    Raises:
      BadInput: the sizes do not multiply to the number of devices.
    """
    devices = jax.devices() if devices is None else devices
    sizes = [spec.data, spec.fsdp]
    known = int(np.prod([size for size in sizes if size != -1]))
    if sizes.count(-1) > 1 or any(size == 0 or size < -1 for size in sizes) or len(devices) % known:
        raise BadInput(_complaint(spec, len(devices)))
    sizes = [len(devices) // known if size == -1 else size for size in sizes]
    if int(np.prod(sizes)) != len(devices):
        raise BadInput(_complaint(spec, len(devices)))
    return jax.make_mesh(tuple(sizes), AXES, axis_types=(AxisType.Auto, AxisType.Auto), devices=devices)


def _complaint(spec: MeshSpec, count: int) -> str:
    return (
        f"mesh.data = {spec.data} times mesh.fsdp = {spec.fsdp} does not fit {count} device(s); "
        "leave mesh.data at -1 and choose a mesh.fsdp that divides the number of devices"
    )
