"""Meshes: made here and nowhere else, with the axis types written out.

Three axes. Samples are cut along `data` and `fsdp`; large leaves are repeated along `data`, and along `fsdp` kept in
parts and gathered where they are used (nn/whole.py). Along `tensor` samples are repeated, and leaves are cut where
`ShardSpec.overrides` says so and computed with in parts.

`tensor` does not pay for these models, so nothing chooses it by itself. A block of d channels has 12 d^2 weights; among
n devices that hold T tokens together, each receives (n - 1) / n of

    fsdp      2 gathers in bfloat16 and one sum of gradients in float32:   (2 * 2 + 8) * 12 d^2 bytes
    tensor    4 sums of activations in bfloat16 (Shoeybi et al. 2019):     4 * 2 * 2 * T d bytes

so that tensor is ahead below T = 9 d: 11520 tokens for ViT-H (d = 1280), less than three images of 1024 px for all n
devices, less than one image a device. (A frozen teacher: one gather against two sums, T = 3 d.) And weights need no
finer cut than fsdp gives: the largest model here, ViT-H with 0.64 billion, has 0.3 GB of float32 on each of eight.
"""

import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh

from sadist_jax.errors import BadInput
from sadist_jax.ops.each import ROWS
from sadist_jax.parallel import hosts
from sadist_jax.parallel.devices import every

AXES = (*ROWS, "tensor")
SHARE = 0.5  # ours: of a device's memory that weights and moments may fill; activations need the rest


@dataclasses.dataclass(frozen=True)
class MeshSpec:
    """How many devices along each axis; -1 (for one of them) takes what is left.

    fsdp: None takes as few as keep the run's state within half of a device's memory, and a whole part of a node: 1
      where all of it fits, and where devices do not tell their memory, as CPUs; where none is enough, what holds least.
    """

    data: int = -1
    fsdp: int | None = None
    tensor: int = 1


def make(
    spec: MeshSpec,
    devices: Sequence[Any] | None = None,
    *,
    held: Callable[[int], int] = lambda parts: 0,
    memory: int | None = None,
    node: int | None = None,
) -> Mesh:
    """Mesh over all devices of all hosts, or over those given; one device is a mesh of one.

    Args:
      held: bytes of the state that one device has with so many devices along fsdp.
      memory: bytes of a device; None: what this process's devices say.
      node: how many devices have a fast network among them; None: what they say.
    Raises:
      BadInput: the sizes do not multiply to the number of devices, or devices of two processes would lie along tensor.
    """
    devices = every() if devices is None else devices
    fsdp = _fewest(spec, devices, held, memory, node) if spec.fsdp is None else spec.fsdp
    sizes = [spec.data, fsdp, spec.tensor]
    known = int(np.prod([size for size in sizes if size != -1]))
    if sizes.count(-1) > 1 or any(size == 0 or size < -1 for size in sizes) or len(devices) % known:
        raise BadInput(_complaint(spec, len(devices)))
    sizes = [len(devices) // known if size == -1 else size for size in sizes]
    if int(np.prod(sizes)) != len(devices):
        raise BadInput(_complaint(spec, len(devices)))
    grid = _arranged(devices, sizes)
    if any(len({device.process_index for device in row}) > 1 for row in grid.reshape(-1, sizes[2])):
        raise BadInput(f"mesh.tensor = {sizes[2]} must divide the devices of each process, which share their samples")
    return Mesh(grid, AXES, axis_types=(AxisType.Auto,) * len(AXES))


def _arranged(devices: Sequence[Any], sizes: Sequence[int]) -> np.ndarray:
    """The devices in an array of those sizes: what lies side by side along its last axes has the fastest links.

    `jax.make_mesh` refuses more than one slice, which the nodes of GPUs are to JAX, and sizes that cut an axis of a
    TPU's torus, unless it is a v5e.
    """
    slices = {_slice(device) for device in devices}
    if devices[0].platform == "tpu" and len(slices) == 1:
        return mesh_utils.create_device_mesh(sizes, devices, allow_split_physical_axes=True)
    if devices[0].platform == "tpu" and sizes[0] % len(slices) == 0:
        inner, outer = (sizes[0] // len(slices), *sizes[1:]), (len(slices), 1, 1)
        return mesh_utils.create_hybrid_device_mesh(inner, outer, devices, allow_split_physical_axes=True)
    ordered = sorted(devices, key=lambda device: (_slice(device), device.process_index, device.id))
    return np.array(ordered, object).reshape(sizes)


def _slice(device: Any) -> int:
    """Devices of one have a fast network among them: a TPU slice, or a node of GPUs."""
    return getattr(device, "slice_index", device.process_index)


def node_size(devices: Sequence[Any]) -> int:
    """Devices with a fast network among them. The fewest, where nodes differ."""
    return min(Counter(map(_slice, devices)).values())


def _fewest(
    spec: MeshSpec, devices: Sequence[Any], held: Callable[[int], int], memory: int | None, node: int | None
) -> int:
    """How many devices share the state so that each one's part fits; no group of them spans two nodes."""
    memory = _memory() if memory is None else memory
    if not memory or spec.data != -1:
        return 1 if spec.data == -1 else -1
    ends = (node or node_size(devices), len(devices))
    sizes = [n for n in range(1, ends[0] + 1) if not any(end % (n * max(spec.tensor, 1)) for end in ends)] or [1]
    return next((n for n in sizes if held(n) <= SHARE * memory), min(sizes, key=held))


def _memory() -> int:
    """Bytes that JAX may use of a device of process 0; 0 where they are not known."""
    told = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit", 0)
    return int(hosts.agreed(np.asarray(told, np.float32)))


def _complaint(spec: MeshSpec, count: int) -> str:
    fsdp = "" if spec.fsdp is None else f" times mesh.fsdp = {spec.fsdp}"
    tensor = "" if spec.tensor == 1 else f" times mesh.tensor = {spec.tensor}"
    return (
        f"mesh.data = {spec.data}{fsdp}{tensor} does not fit {count} device(s); "
        "leave mesh.data at -1 and choose a mesh.fsdp that divides the number of devices"
    )
