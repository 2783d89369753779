"""launch/tpu_vm.sh against stand-ins for gcloud, Python and pip: two hosts, each with a home."""

import os
import subprocess
from pathlib import Path

import pytest

from sadist_jax.cli import launch

STAND_INS = {
    # runs what --command says on both hosts at once, as `ssh --worker=all` does; fails if one of them does
    "gcloud": """
printf '%s\\n' "$*" | head -n 1 | cut -c 1-60 >>"$ALL/calls"
case $4 in
  describe) cat "$ALL/state"; exit ;;
  delete | create) echo READY >"$ALL/state"; exit ;;
esac
for word; do case $word in --command=*) command=${word#--command=} ;; esac; done
for host in 0 1; do HOST=$host HOME=$ALL/host$host bash -c "$command" & pids="$pids $!"; done
code=0
for pid in $pids; do wait "$pid" || code=1; done
exit $code
""",
    # `python3 -m venv venv`: an environment whose pip notes what it installs, and whose sadist ends as the test says
    "python3": """
mkdir -p venv/bin
printf '#!/bin/bash\\necho "$*" >>~/pip' >venv/bin/pip
cat >venv/bin/sadist <<'END'
#!/bin/bash
echo "host $HOST, hosts $SADIST_HOSTS: $*" | tee -a ~/starts
start=$(wc -l <~/starts)
exit "$(sed -n "${start}p" "$ALL/plan")"
END
chmod +x venv/bin/*
""",
    "sleep": "exit 0",
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
    (tmp_path / "state").write_text("READY\n")
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    monkeypatch.setenv("ALL", str(tmp_path))
    return tmp_path


def run(cluster: Path, plan: str, *options: str) -> subprocess.CompletedProcess:
    """The printed script, run with bash; `plan`: how sadist ends on both hosts, start by start."""
    (cluster / "plan").write_text(plan.replace(" ", "\n"))
    script = launch_text(["tpu-vm", "--name", "my tpu", "--zone", "z", *options, "--", "train", "it's.py"])
    return subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60)


def launch_text(argv: list[str]) -> str:
    from sadist_jax.cli._launch_tpu_vm import Options, render

    words, job = launch.split(argv[1:])
    return render(launch._parse(Options, "tpu-vm", words), job)


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


@pytest.mark.processes
def test_every_host_runs_the_job_and_shows_what_it_prints(cluster):
    done = run(cluster, "0")
    assert done.returncode == 0, done.stdout
    for host in range(2):
        assert lines(cluster / f"host{host}" / "starts") == [f"host {host}, hosts auto: train it's.py"]
        assert f"host {host}, hosts auto: train it's.py" in done.stdout  # and shows its output here
    assert lines(cluster / "host0" / "pip") == ["install --quiet sadist_jax[tpu]"]


@pytest.mark.processes
def test_a_lost_host_makes_all_start_again_with_the_same_environment(cluster):
    done = run(cluster, "134 0")
    assert done.returncode == 0, done.stdout
    assert [len(lines(cluster / f"host{host}" / "starts")) for host in range(2)] == [2, 2]
    assert len(lines(cluster / "host1" / "pip")) == 1


@pytest.mark.processes
def test_bad_input_and_too_many_restarts_end_it(cluster):
    assert run(cluster, "2 0").returncode == 2
    assert len(lines(cluster / "host0" / "starts")) == 1


@pytest.mark.processes
def test_restarts_are_counted_and_being_asked_to_stop_is_not(cluster):
    assert run(cluster, "75 75 3 3 0", "--max-restarts", "1").returncode == 1
    assert len(lines(cluster / "host0" / "starts")) == 4


@pytest.mark.processes
def test_a_vm_that_was_taken_away_is_made_anew(cluster):
    (cluster / "state").write_text("PREEMPTED\n")
    done = run(cluster, "3 0", "--accelerator-type", "v5litepod-16", "--version", "v2")
    assert done.returncode == 0, done.stdout
    calls = [line.split()[3] for line in lines(cluster / "calls")]
    assert calls == ["ssh", "describe", "delete", "create", "ssh"]
