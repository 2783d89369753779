"""Accelerators as their makers describe them: what `sadist plan` divides by.

Sources. TPUs: Google Cloud's documentation, pages "TPU v5e", "TPU v5p" and "TPU v6e"; the memory that a program can use
is what libtpu names when one is too large for it. GPUs: NVIDIA's data sheets of the A100 80 GB, H100 and H200, all SXM,
and of the servers DGX A100, H100 and H200, for links and network cards; their memory is what nvidia-smi shows (81920,
81559 and 143771 MiB). Rates are dense ones, without sparsity; links are counted in one direction, half of what makers
print.
"""

import dataclasses
import difflib

from sadist_jax.errors import BadInput

GB, GIB = 10**9, 2**30
# of a GPU's memory: what JAX takes at its start, unless XLA_PYTHON_CLIENT_MEM_FRACTION says otherwise
PREALLOCATED = 0.75
EFFICIENCY = 0.4  # of the peak; ours, to be measured: published trainings of ViTs reach 0.2 to 0.5


@dataclasses.dataclass(frozen=True)
class Kind:
    """One device of a kind.

    platform: JAX's name of it.
    peak, peak32: FLOP/s of matrix products of bfloat16 and, at JAX's default precision, of float32: TF32 on a GPU, one
      pass of bfloat16 on a TPU.
    memory, usable: bytes of its memory by name, and those that a program can have.
    bandwidth: of its memory, bytes/s.
    node: devices that the fast links join: those of a server (NVLink), or of a slice (ICI).
    inner: bytes/s that a device receives over the fast links, all of them together.
    outer: bytes/s that a device receives from other nodes; None: not known.
    """

    name: str
    platform: str
    peak: float
    peak32: float
    memory: float
    usable: float
    bandwidth: float
    node: int
    inner: float
    outer: float | None


# A network card for each GPU: 200 Gb/s with the A100, 400 Gb/s with the others. 256 chips of v5e share 6.4 Tb/s to the
# data centre, one of v5p has 50 Gb/s; the largest slice of v5p that can be had has 6144 chips.
KINDS = {
    kind.name: kind
    for kind in (
        Kind("v5e", "tpu", 197e12, 197e12, 16 * GIB, 15.75 * GIB, 819 * GB, 256, 200 * GB, 6.4e12 / 256 / 8),
        Kind("v5p", "tpu", 459e12, 459e12, 96 * GIB, 95.74 * GIB, 2765 * GB, 6144, 600 * GB, 50e9 / 8),
        Kind("v6e", "tpu", 918e12, 918e12, 32 * GIB, 31.25 * GIB, 1638 * GB, 256, 400 * GB, None),
        Kind("a100", "gpu", 312e12, 156e12, 80 * GIB, PREALLOCATED * 80 * GIB, 2039 * GB, 8, 300 * GB, 200e9 / 8),
        Kind("h100", "gpu", 989e12, 494e12, 79.6 * GIB, PREALLOCATED * 79.6 * GIB, 3350 * GB, 8, 450 * GB, 400e9 / 8),
        Kind("h200", "gpu", 989e12, 494e12, 140.4 * GIB, PREALLOCATED * 140.4 * GIB, 4800 * GB, 8, 450 * GB, 400e9 / 8),
    )
}


def find(name: str) -> Kind:
    """The kind of that name. Raises BadInput."""
    if name not in KINDS:
        near = difflib.get_close_matches(name, KINDS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(KINDS)}"
        raise BadInput(f"--kind {name} is not known; {hint}")
    return KINDS[name]
