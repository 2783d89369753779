"""Compile for a GPU that is not there, to ask the compiler for a program's memory: nothing can be run.

Needs `pip install "jax[cuda12]"`, whose compiler works without a driver or a card. There is no public way into it yet
(jax-ml/jax issues 23971 and 28376), so this reaches into JAX's own modules; written for jax 0.10.
"""

import contextlib
import functools
from collections.abc import Iterator
from typing import Any
from unittest import mock

# What XLA asks of a card, from the makers' data sheets.
H100 = """
gpu_device_info {
  cuda_compute_capability { major: 9 minor: 0 }
  threads_per_block_limit: 1024 threads_per_warp: 32 threads_per_core_limit: 2048 core_count: 132 fpus_per_core: 128
  shared_memory_per_block: 49152 shared_memory_per_core: 233472 shared_memory_per_block_optin: 232448
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
  memory_bandwidth: 3352320000000 l2_cache_size: 52428800 clock_rate_ghz: 1.98 device_memory_size: 84929347584
}
platform_name: "CUDA" device_description_str: "NVIDIA H100 80GB HBM3"
dnn_version_info { major: 9 minor: 10 } runtime_version { major: 12 minor: 8 patch: 0 }
"""
RTX_4090 = """
gpu_device_info {
  cuda_compute_capability { major: 8 minor: 9 }
  threads_per_block_limit: 1024 threads_per_warp: 32 threads_per_core_limit: 1536 core_count: 128 fpus_per_core: 128
  shared_memory_per_block: 49152 shared_memory_per_core: 102400 shared_memory_per_block_optin: 101376
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
  memory_bandwidth: 1008000000000 l2_cache_size: 75497472 clock_rate_ghz: 2.52 device_memory_size: 25769803776
}
platform_name: "CUDA" device_description_str: "NVIDIA GeForce RTX 4090"
dnn_version_info { major: 9 minor: 10 } runtime_version { major: 12 minor: 8 patch: 0 }
"""
TARGETS = {"h100": H100, "rtx4090": RTX_4090}
CUDNN = 91000  # the version in the descriptions above, as JAX writes it


@contextlib.contextmanager
def target(name: str) -> Iterator[Any]:
    """Make the described card JAX's default device inside the block; `.lower(...).compile()` then compiles for it.

    Raises ImportError where JAX's CUDA plugin is not installed.
    """
    device = _device(TARGETS[name])
    capability = tuple(int(part) for part in device.compute_capability.split("."))
    at_least = lambda wanted: capability >= tuple(int(part) for part in wanted.split("."))  # noqa: E731
    fused = "jax._src.cudnn.fused_attention_stablehlo"
    cuda = lambda platform: "cuda" if platform == "gpu" else platform  # noqa: E731
    with contextlib.ExitStack() as stack:
        for where, substitute in {
            "jax.default_backend": lambda: "gpu",
            "jax.devices": lambda *_: [device],
            "jax._src.xla_bridge.canonicalize_platform": cuda,
            f"{fused}.check_cudnn_version": lambda: CUDNN,
            f"{fused}.check_compute_capability": at_least,
            f"{fused}.is_cuda_compute_capability_equal": lambda wanted: wanted == device.compute_capability,
        }.items():
            stack.enter_context(mock.patch(where, substitute))
        yield device


def _device(description: str) -> Any:
    from jax._src.cudnn import fused_attention_stablehlo  # noqa: F401  to be patched above
    from jax._src.lib import xla_client

    options = {"topology": "1x1x1", "target_config": description}
    (device,) = xla_client.make_c_api_device_topology(_compiler(), "card", **options)._make_compile_only_devices()
    return device


@functools.cache  # it cannot be loaded twice
def _compiler() -> Any:
    import jax_plugins.xla_cuda12 as plugin
    from jax._src.lib import xla_client

    api = xla_client.load_pjrt_plugin_dynamically("cuda", str(plugin._get_library_path()))
    if not xla_client.pjrt_plugin_initialized("cuda"):
        xla_client.initialize_pjrt_plugin("cuda")
    return api
