"""The devices of this run, which JAX starts when the first of them is asked for."""

import os
import re
from typing import Any

import jax

from sadist_jax.errors import BadInput, ClusterProblem
from sadist_jax.parallel import hosts

_AWAITED = re.compile(r"DEADLINE_EXCEEDED|UNAVAILABLE|coordination service", re.IGNORECASE)  # of another process


def every() -> list[Any]:
    """Those of all processes. Collective the first time.

    Raises:
      BadInput: those of this process do not start.
      ClusterProblem: another process, which they wait for, is lost.
    """
    try:
        return jax.devices()
    except (RuntimeError, AssertionError) as error:  # the second, without a word, where JAX sees no GPU at all
        reason = str(error).partition("\n")[0]
        if hosts.connected() and _AWAITED.search(reason):
            raise ClusterProblem(f"the devices of another process did not start; see its log ({reason})") from None
        asked = os.environ.get("JAX_PLATFORMS", "")
        raise BadInput(
            f"JAX cannot start the devices of JAX_PLATFORMS={asked}: {reason or 'there are none'}; look whether "
            "`nvidia-smi` shows the GPUs and jax[cuda12] is installed (for TPUs jax[tpu]), or set JAX_PLATFORMS=cpu"
        ) from None


def own() -> list[Any]:
    """Those of this process; collective and raising as `every` is."""
    every()
    return jax.local_devices()
