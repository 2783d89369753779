"""What every test needs before JAX starts: eight simulated devices and one compilation cache."""

import importlib.util
import os
from pathlib import Path

import hypothesis
import pytest

from sadist_jax.cli import use_compilation_cache

# Eight CPU devices let sharding be tested anywhere. For tests marked gpu: JAX_PLATFORMS=cuda,cpu pytest -m gpu
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8".strip()
# XLA's CPU client has as many threads as devices; two collectives at once, each waiting in some of them for the rest,
# then wait for ever (jaxlib 0.10 ends such a process after 40 s).
os.environ.setdefault("NPROC", "32")
use_compilation_cache()  # shared by the xdist workers and by the next run
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # XLA's information and warnings drown pytest's own output
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")

# A slow first example is a compilation, not a bug; what fails in CI must fail at home too.
hypothesis.settings.register_profile("sadist", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("sadist")

PARITY = Path(__file__).parent / "parity"
HAS_TORCH = importlib.util.find_spec("torch") is not None


def pytest_ignore_collect(collection_path):
    """tests/parity imports torch, which only `make parity` installs."""
    return True if not HAS_TORCH and collection_path == PARITY else None


def pytest_collection_modifyitems(config, items):
    """Everything in tests/parity is marked parity; tests marked gpu are skipped where no accelerator was asked for."""
    no_gpu = pytest.mark.skip(reason="needs an accelerator: JAX_PLATFORMS=cuda,cpu pytest -m gpu")
    for item in items:
        if PARITY in item.path.parents:
            item.add_marker("parity")
        if item.get_closest_marker("gpu") and os.environ["JAX_PLATFORMS"] == "cpu":
            item.add_marker(no_gpu)
