"""Two processes of two simulated devices each that are one run, on loopback."""

import os
import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def pair(*commands: list[str], limit: float = 120, **environment: str) -> list[tuple[int, str]]:
    """(exit code, output) of `python COMMAND` for each; environment: what differs from that of a pair."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        coordinator = f"127.0.0.1:{free.getsockname()[1]}"
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("SADIST_", "SLURM_"))}
    shared = {
        "PYTHONPATH": str(ROOT),
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
        "SADIST_COORDINATOR": coordinator,
        "SADIST_PROCESSES": str(len(commands)),
        "SADIST_PATIENCE": "60",
        **environment,
    }
    processes = [
        subprocess.Popen(
            [sys.executable, *command],
            env={**inherited, **shared, "SADIST_PROCESS": str(i)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for i, command in enumerate(commands)
    ]
    try:
        outputs = [process.communicate(timeout=limit)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    return [(process.returncode, output) for process, output in zip(processes, outputs, strict=True)]
