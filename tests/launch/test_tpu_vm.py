"""launch/tpu_vm.sh against stand-ins for gcloud, Python and pip: two hosts, each with a home."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sadist_jax.cli import launch

REQUIREMENT = "sadist_jax[tpu] @ git+https://host/owner/sadist_jax"
INSTALLED = [
    "-m pip install --quiet --user uv",
    "-m uv venv --quiet --python 3.11 venv",
    f"-m uv pip install --quiet --python venv/bin/python {REQUIREMENT}",
]
STAND_INS = {
    # runs what --command says on both hosts at once, as `ssh --worker=all` does; fails if one of them does. What the VM
    # is at one look after another is in `states`; "?": the look itself fails, and says so
    "gcloud": """
printf '%s\\n' "$*" | head -n 1 | cut -c 1-60 >>"$ALL/calls"
case $4 in
  describe)
    read -r state <"$ALL/states"
    sed -i 1d "$ALL/states"
    case $state in
      NOT_FOUND) echo "ERROR: (gcloud.compute.tpus.tpu-vm.describe) NOT_FOUND: no such VM" >&2; exit 1 ;;
      '?') echo "ERROR: the network cannot be reached" >&2; exit 1 ;;
    esac
    echo "$state"
    exit ;;
  delete | create) exit "$(cat "$ALL/$4-code" 2>/dev/null || echo 0)" ;;
esac
for word; do case $word in --command=*) command=${word#--command=} ;; esac; done
for host in 0 1; do HOST=$host HOME=$ALL/host$host bash -c "$command" & pids="$pids $!"; done
code=0
for pid in $pids; do wait "$pid" || code=1; done
exit $code
""",
    # `python3 -m pip` and `python3 -m uv`: an environment whose sadist ends as the test says
    "python3": """
echo "$*" >>~/installed
case "$2 $3" in
  'uv pip') exit "$(cat "$ALL/install-code" 2>/dev/null || echo 0)" ;;
  'pip install') exit ;;
esac
mkdir -p venv/bin
cat >venv/bin/sadist <<'END'
#!/bin/bash
echo "host $HOST, hosts $SADIST_HOSTS: $*" | tee -a ~/starts
start=$(wc -l <~/starts)
code=$(sed -n "${start}p" "$ALL/plan")
[ "$code" != wait ] || exec /bin/sleep 30
exit "$code"
END
chmod +x venv/bin/*
""",
    "sleep": """echo "$*" >>"$ALL/sleeps" """,
}


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """A folder with the stand-ins on PATH and the homes of two hosts."""
    (tmp_path / "bin").mkdir()
    for name, text in STAND_INS.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/bash\n{text.lstrip()}")
        (tmp_path / "bin" / name).chmod(0o755)
    for host in range(2):
        (tmp_path / f"host{host}").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    monkeypatch.setenv("ALL", str(tmp_path))
    return tmp_path


def run(cluster: Path, plan: str, *options: str) -> subprocess.CompletedProcess:
    """The printed script, run with bash; `plan`: how sadist ends on both hosts, start by start."""
    (cluster / "plan").write_text(plan.replace(" ", "\n"))
    script = launch_text(words(*options))
    return subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60)


def words(*options: str) -> list[str]:
    named = ["--name", "my tpu", "--zone", "z", "--requirement", REQUIREMENT]
    return ["tpu-vm", *named, *options, "--", "train", "it's.py"]


def launch_text(argv: list[str]) -> str:
    from sadist_jax.cli._launch_tpu_vm import Options, render

    options, job = launch.split(argv[1:])
    return render(launch._parse(Options, "tpu-vm", options), job)


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


@pytest.mark.processes
def test_every_host_runs_the_job_and_shows_what_it_prints(cluster):
    done = run(cluster, "0")
    assert done.returncode == 0, done.stdout
    for host in range(2):
        assert lines(cluster / f"host{host}" / "starts") == [f"host {host}, hosts auto: train it's.py"]
        assert f"host {host}, hosts auto: train it's.py" in done.stdout  # and shows its output here
    assert lines(cluster / "host0" / "installed") == INSTALLED


@pytest.mark.processes
def test_a_lost_host_makes_all_start_again_with_the_same_environment(cluster):
    done = run(cluster, "134 0")
    assert done.returncode == 0, done.stdout
    assert [len(lines(cluster / f"host{host}" / "starts")) for host in range(2)] == [2, 2]
    assert lines(cluster / "host1" / "installed") == INSTALLED  # once


@pytest.mark.processes
def test_bad_input_and_too_many_restarts_end_it(cluster):
    assert run(cluster, "2 0").returncode == 2
    assert len(lines(cluster / "host0" / "starts")) == 1


@pytest.mark.processes
def test_restarts_are_counted_and_being_asked_to_stop_is_not(cluster):
    assert run(cluster, "75 75 3 3 0", "--max-restarts", "1").returncode == 1
    assert len(lines(cluster / "host0" / "starts")) == 4


@pytest.mark.processes
def test_what_cannot_be_installed_is_not_tried_again(cluster):
    (cluster / "install-code").write_text("1")
    done = run(cluster, "0")
    assert done.returncode == 2
    assert f"cannot install --requirement {REQUIREMENT}; what is wrong with it stands above" in done.stdout
    assert len(lines(cluster / "calls")) == 1
    assert not lines(cluster / "host0" / "starts")


def calls_after_a_loss(cluster: Path, *states: str) -> list[str]:
    """What gcloud was asked when a host was lost and the VM then was in these states, look by look."""
    (cluster / "states").write_text("".join(f"{state}\n" for state in (*states, "READY")))
    done = run(cluster, "3 0", "--accelerator-type", "v5litepod-16", "--version", "v2")
    assert done.returncode == 0, done.stdout
    calls = [line.split()[3] for line in lines(cluster / "calls")]
    assert (calls[0], calls[-1]) == ("ssh", "ssh")
    return calls[1:-1]


@pytest.mark.processes
@pytest.mark.parametrize("state", ["PREEMPTED", "TERMINATED", "STOPPED"])
def test_a_vm_that_was_taken_away_is_made_anew(cluster, state):
    calls = calls_after_a_loss(cluster, state, "NOT_FOUND")
    assert calls == ["describe", "delete", "describe", "create", "describe"]
    assert lines(cluster / "sleeps") == ["2"]


@pytest.mark.processes
@pytest.mark.parametrize("state", ["?", "REPAIRING", "RESTARTING", "STARTING"])
def test_a_vm_that_may_come_back_is_waited_for_and_never_deleted(cluster, state):
    """A `describe` that fails, for the network was gone, says nothing of the VM."""
    assert calls_after_a_loss(cluster, state, state) == ["describe"] * 3
    assert lines(cluster / "sleeps") == ["2", "60", "60"]


@pytest.mark.processes
def test_a_vm_that_cannot_be_made_yet_is_tried_again(cluster):
    (cluster / "create-code").write_text("1")
    assert calls_after_a_loss(cluster, "NOT_FOUND", "NOT_FOUND") == [*["describe", "create"] * 2, "describe"]
    assert lines(cluster / "sleeps") == ["2", "60", "60"]


@pytest.mark.processes
def test_sigterm_to_the_command_ends_the_loop(cluster):
    """It is the loop that gets it, or this would go on to start what was to end."""
    (cluster / "plan").write_text("wait\n0\n")
    argv = words()
    command = [sys.executable, "-m", "sadist_jax", "launch", *argv[:-3], "--submit", *argv[-3:]]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    started = [cluster / f"host{host}" / "sadist" / "run.pid" for host in range(2)]
    while not all(map(lines, started)):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=20) == -signal.SIGTERM
    for file in started:  # what would have the loop go on, if there were one
        os.kill(int(file.read_text()), signal.SIGKILL)
    time.sleep(3)  # tail looks every second whether they have ended
    assert [line.split()[3] for line in lines(cluster / "calls")] == ["ssh"]
