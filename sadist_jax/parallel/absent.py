"""Devices that are not there, to compile for: nothing can be run on them."""

import importlib.util
import os
from typing import Any

import jax
from jax.experimental import topologies

from sadist_jax.errors import BadInput
from sadist_jax.parallel.kinds import Kind

# How the chips of a slice lie, by their number: "supported configurations" in Google Cloud's pages of the kinds.
_FLAT = {1: "1x1", 4: "2x2", 8: "2x4", 16: "4x4", 32: "4x8", 64: "8x8", 128: "8x16", 256: "16x16"}
_CUBES = {
    4: "2x2x1", 8: "2x2x2", 16: "2x2x4", 32: "2x4x4", 64: "4x4x4", 128: "4x4x8", 256: "4x8x8", 512: "8x8x8",
    1024: "8x8x16", 2048: "8x16x16", 4096: "16x16x16",
}  # fmt: skip
SLICES = {"v5e": _FLAT, "v6e": _FLAT, "v5p": _CUBES}


def simulated(count: int) -> list[Any]:
    """CPU devices, of which there are as many as one likes as long as JAX has not begun to run.

    Raises:
      BadInput: JAX runs already, with fewer.
    """
    try:
        jax.config.update("jax_num_cpu_devices", count)
        jax.config.update("jax_platforms", "cpu")  # this machine's own accelerators have no part in it
    except RuntimeError:
        pass  # it runs
    devices = jax.devices("cpu")
    if len(devices) < count:
        raise BadInput(f"--devices {count}: JAX was started with {len(devices)}; plan in a process of its own")
    return devices[:count]


def check_slice(kind: Kind, count: int) -> None:
    """Raises BadInput where there is no slice of so many TPUs, or libtpu, which compiles for it, is not installed."""
    if count not in SLICES[kind.name]:
        sizes = ", ".join(str(size) for size in SLICES[kind.name])
        raise BadInput(f"--devices {count}: slices of {kind.name} have {sizes} devices; choose one of these")
    if importlib.util.find_spec("libtpu") is None:
        raise BadInput(
            f"--kind {kind.name} is compiled by libtpu, which is not installed; install sadist_jax[plan], or estimate "
            "without it by --compiler cpu"
        )


def tpus(kind: Kind, count: int) -> list[Any]:
    """The devices of a slice."""
    # there is no metadata server to ask, and a TPU that may be here stays free
    os.environ.update({"TPU_SKIP_MDS_QUERY": "1", "ALLOW_MULTIPLE_LIBTPU_LOAD": "1"})
    shape = SLICES[kind.name][count]
    options = {"chips_per_host_bounds": (1, 1, 1)} if count == 1 else {}
    return list(topologies.get_topology_desc(f"{kind.name}:{shape}", "tpu", **options).devices)
