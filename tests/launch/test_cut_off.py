"""Two hosts with addresses of their own (network namespaces), one of which loses its connection in the middle."""

import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.launch.slow_toy import STEPS

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
HEARTBEAT = 30  # seconds without a sign of life after which a peer counts as lost (parallel/hosts.py)


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


@pytest.fixture
def hosts() -> Iterator[str]:
    """Prefix of two namespaces' names, PREFIX0 (10.77.0.1) and PREFIX1 (10.77.0.2), with a cable between them."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("network namespaces need root and iproute2")
    name = f"sadist{os.getpid()}-"
    try:
        ip("netns", "add", f"{name}0")
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no network namespace can be made here: {error.stderr.strip()}")
    try:
        ip("netns", "add", f"{name}1")
        for host in range(2):  # `ip netns exec` shows a process this file as /etc/hosts: gloo looks itself up by name
            own = Path("/etc/netns", f"{name}{host}")
            own.mkdir(parents=True)
            (own / "hosts").write_text(f"10.77.0.{host + 1} {platform.node()}\n127.0.0.1 localhost\n")
        ip("-n", f"{name}0", "link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", f"{name}1")
        for host in range(2):
            ip("-n", f"{name}{host}", "address", "add", f"10.77.0.{host + 1}/24", "dev", "cable")
            for device in ("lo", "cable"):
                ip("-n", f"{name}{host}", "link", "set", device, "up")
        yield name
    finally:
        for host in range(2):
            shutil.rmtree(f"/etc/netns/{name}{host}", ignore_errors=True)
            subprocess.run(["ip", "netns", "delete", f"{name}{host}"], check=False, capture_output=True)


def steps_begun(out: Path) -> int:
    path = out / "samples.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


@pytest.mark.processes
@pytest.mark.timeout(1200)  # a minute on two idle cores
def test_a_host_that_is_cut_off_is_noticed_and_the_run_goes_on_when_it_is_back(tmp_path, hosts):
    out, log = tmp_path / "run", tmp_path / "log"
    options = ["--processes", "2", "--devices-per-process", "1", "--host", "10.77.0.1"]
    options += ["--prefix", f"ip netns exec {hosts}{{process}}"]
    command = [sys.executable, "-m", "sadist_jax", "launch", "local", *options, "--"]
    command += ["train", str(HERE / "slow_toy.py"), "--out", str(out)]
    with log.open("w") as file:
        launcher = subprocess.Popen(
            command, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=file, stderr=subprocess.STDOUT
        )
    try:
        wait_for(lambda: steps_begun(out) >= 25, launcher, log, 400)
        ip("-n", f"{hosts}1", "link", "set", "cable", "down")
        cut = time.monotonic()
        wait_for(lambda: "restart 1 of 3" in log.read_text(), launcher, log, HEARTBEAT + 30)
        noticed = time.monotonic() - cut
        ip("-n", f"{hosts}1", "link", "set", "cable", "up")
        assert launcher.wait(timeout=400) == 0, log.read_text()
    finally:
        for _ in range(2):  # the second one ends the processes, too
            launcher.send_signal(signal.SIGTERM)
            time.sleep(1)
        launcher.wait(timeout=30)
    print(f"noticed after {noticed:.1f} s")
    assert noticed < HEARTBEAT + 15  # and the grace of the launcher
    assert re.search(r"toy goes on after step [1-9]0\b", log.read_text())
    lines = (out / "samples.jsonl").read_text().splitlines()
    assert len(lines) == STEPS


def wait_for(condition, launcher: subprocess.Popen, log: Path, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert launcher.poll() is None, log.read_text()
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.1)
