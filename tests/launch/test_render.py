"""What `sadist launch` prints for clusters: against files that were read and approved, and word by word."""

import json
import os
import re
import shlex
import subprocess
import sys

import pytest

from sadist_jax import cli
from sadist_jax.cli import launch
from sadist_jax.errors import BadInput
from tests.launch.rendered import CASES, GOLDEN, GPU, JOB, JOBSET, ODD, ROOT, SLURM, TPU, TPU_VM, TPU_VM_BARE, printed


@pytest.mark.parametrize("name", CASES)
def test_what_is_printed_is_what_was_approved(name, capsys):
    """After a change of launch/: print it with the words of CASES, read it, and put it into golden/."""
    assert printed(CASES[name], capsys) == (GOLDEN / name).read_text()


@pytest.mark.parametrize("name", [name for name in CASES if not name.endswith(".yaml")])
def test_scripts_are_bash(name):
    subprocess.run(["bash", "-n", GOLDEN / name], check=True)


@pytest.mark.parametrize("argv", [SLURM, TPU_VM])
def test_a_shell_reads_back_the_words_of_the_job(argv, capsys):
    """Spaces, quotes, dollars and backslashes; the line of the script is run with a command that prints its words."""
    text = printed([*argv, "--", *ODD], capsys)
    if argv is SLURM:
        (line,) = re.findall(r"^command=\((.*)\)$", text, re.MULTILINE)
        expected = ["python3", "-m", "sadist_jax", *ODD]
    else:
        (line,) = re.findall(r"^nohup venv/bin/sadist (.*) >>run.log", text, re.MULTILINE)
        expected = ODD
    read = f"{shlex.quote(sys.executable)} -c 'import json, sys; print(json.dumps(sys.argv[1:]))' {line}"
    out = subprocess.run(["bash", "-c", read], check=True, capture_output=True, text=True).stdout
    assert json.loads(out) == expected


def test_names_of_a_batch_job_may_have_spaces_and_quotes(capsys):
    text = printed([*SLURM, "--name", "it's a run", "--output", "my logs/%j.log", *JOB], capsys)
    values = dict(re.findall(r"^#SBATCH --(job-name|output)=(.*)$", text, re.MULTILINE))
    assert {name: shlex.split(value) for name, value in values.items()} == {
        "job-name": ["it's a run"],
        "output": ["my logs/%j.log"],
    }


def test_a_task_has_a_gpu_of_its_own(capsys):
    """JAX takes a part of what a task sees by the task's number on its node, so each must see all GPUs of the node."""
    text = printed([*SLURM, "--gpus-per-node", "8", *JOB], capsys)
    assert "#SBATCH --gpus-per-node=8\n" in text
    assert "#SBATCH --ntasks-per-node=8\n" in text
    assert "--gpu-bind=none" in text
    assert "gpus-per-task" not in text


@pytest.mark.parametrize(("job", "ended"), [("train", 1), ("label", 0), ("features", 0)])
def test_only_tasks_that_need_each_other_are_ended_when_one_ends(job, ended, capsys):
    """The shares of a folder that are asked to stop end when their piece is done, each in its own time."""
    assert f" --kill-on-bad-exit={ended}" in printed([*SLURM, "--", job, "x"], capsys)


REFUSED = [
    (["slurm", "--nodes", "0", *JOB], "--nodes must be 1 or more"),
    (["slurm", "--gpus-per-node", "2", "--tasks-per-node", "2", *JOB], "one task a GPU"),
    (["slurm", "--cpus-per-task", "0", *JOB], "--cpus-per-task must be 1 or more"),
    (["slurm", "--sbatch=partition", *JOB], "is no option of sbatch"),
    (["slurm", "--name", "a\nb", *JOB], "line break"),
    (["slurm", "--", "train", "a\nb"], "line break"),
    (["slurm"], "one of train, features, label, doctor"),
    (["slurm", "--", "predict", "x"], "one of train, features, label, doctor"),
    (["pbs", *JOB], "knows no pbs"),
    (
        [*TPU_VM_BARE, *JOB],
        "--requirement '' has no address, and no package index has sadist_jax; say where the hosts get it",
    ),
    ([*TPU_VM_BARE, "--requirement", "sadist_jax[tpu]==0.1.0", *JOB], "'sadist_jax[tpu]==0.1.0' has no address"),
    ([*TPU_VM, "--version", "v", *JOB], "go together"),
    ([*TPU_VM, "--spot", *JOB], "--spot is of a VM that is made anew"),
    ([*JOBSET, *TPU, *JOB], "either --claim or --bucket"),
    ([*JOBSET, *TPU, "--bucket", "gs://b", *JOB], "without gs://"),
    ([*JOBSET, *TPU, *GPU, "--claim", "c", *JOB], "either --tpu and --topology, or"),
    ([*JOBSET, "--claim", "c", *JOB], "either --tpu and --topology, or"),
    ([*JOBSET, "--nodes", "2", "--claim", "c", *JOB], "must be 1 or more"),
    ([*JOBSET, "--tpu", "t", "--topology", "4by8", "--claim", "c", *JOB], "not like 4x8"),
    ([*JOBSET, "--tpu", "t", "--topology", "3x3", "--claim", "c", *JOB], "not whole hosts"),
    (["jobset", "--name", "My_run", "--image", "i", *TPU, "--claim", "c", *JOB], "no name of a JobSet"),
    ([*JOBSET, *TPU, "--claim", "c", *JOB, "--out", "gs://b/run"], "would be lost with the pod"),
    ([*JOBSET, *TPU, "--claim", "c", *JOB, "--out=/tmp/run"], "would be lost with the pod"),
    ([*JOBSET, *TPU, "--claim", "c", *JOB, "--out", "runs/../x"], "would be lost with the pod"),
    ([*JOBSET, *TPU, "--claim", "c", *JOB, "--out=runs/x", "--out=/tmp/x"], "would be lost with the pod"),
]


@pytest.mark.parametrize(("argv", "sentence"), REFUSED)
def test_what_cannot_be_is_refused(argv, sentence):
    with pytest.raises(BadInput, match=re.escape(sentence)):
        launch.main(argv)


@pytest.mark.parametrize("argv", [TPU_VM, [*JOBSET, *GPU, "--claim", "c"]])
def test_a_config_that_the_hosts_do_not_have_is_refused(argv, tmp_path, monkeypatch, capsys):
    """A relative path is below the folder that the hosts start in; what is below runs, they share."""
    monkeypatch.chdir(tmp_path)
    for name in ("mine.py", "runs/mine.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    for there in ("sami_ti", "configs/sami_ti.py", "runs/mine.py", str(tmp_path / "mine.py"), "theirs.py"):
        printed([*argv, "--", "train", there], capsys)
    for job in ("train mine.py", "doctor mine.py:full1024", "features ./mine.py"):
        with pytest.raises(BadInput, match=r"mine.py is a file of this machine.*: runs/mine.py"):
            launch.main([*argv, "--", *job.split()])


@pytest.mark.parametrize(
    ("argv", "restarts"),
    [
        (SLURM, r"^max_restarts=(\d+)"),
        (TPU_VM, r"^max_restarts=(\d+)"),
        ([*JOBSET, *GPU, "--claim", "c"], r"maxRestarts: (\d+)"),
    ],
)
def test_the_doctor_is_started_as_a_run_is_and_only_once(argv, restarts, capsys):
    def times(*job: str) -> list[str]:
        return re.findall(restarts, printed([*argv, "--", *job], capsys), re.MULTILINE)

    assert times("doctor", "sami_ti") == times("doctor") == ["0"]
    assert times("train", "sami_ti")[0] > "0"


@pytest.mark.parametrize(
    ("argv", "words", "given"),
    [
        (SLURM, ["sbatch"], "stdin"),
        ([*JOBSET, *GPU, "--claim", "runs"], ["kubectl", "create", "-f", "-"], "stdin"),
        (TPU_VM, ["bash", "-c"], "last word"),  # gcloud's ssh would read a script on standard input
    ],
)
def test_submit_hands_over_what_is_printed(argv, words, given, tmp_path, capsys):
    """A stand-in on PATH keeps its words and its standard input."""
    text = printed([*argv, *JOB], capsys)
    stand_in = tmp_path / words[0]
    stand_in.write_text(
        f'#!/bin/sh\nfor word; do printf "%s\\n" "$word"; done >{tmp_path}/words\ncat >{tmp_path}/stdin\nexit 7\n'
    )
    stand_in.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "sadist_jax", "launch", *argv, "--submit", *JOB]  # in place of which bash comes
    assert subprocess.run(command, env=environment, input="typed", text=True).returncode == 7
    last = [text] if given == "last word" else []
    assert (tmp_path / "words").read_text() == "".join(f"{word}\n" for word in [*words[1:], *last])
    assert (tmp_path / "stdin").read_text() == ("" if last else text)


def test_submit_where_the_program_is_missing(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BadInput, match="--submit runs sbatch, which is not on this machine"):
        launch.main([*SLURM, "--submit", *JOB])


@pytest.mark.parametrize("where", launch.WHERE)
def test_help_of_every_place(where, capsys):
    with pytest.raises(SystemExit) as end:
        launch.main([where, "--help"])
    assert end.value.code == 0
    assert "--max-restarts" in capsys.readouterr().out


def test_help_and_rendering_import_no_jax():
    code = f"""
import sys
from sadist_jax.cli import main
main(["launch", "--help"])
print("tyro" in sys.modules)
main({["launch", *CASES["slurm.sbatch"]]!r})
print("jax" in sys.modules or "grain" in sys.modules)
"""
    lines = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.splitlines()
    assert (lines.count("False"), lines.count("True")) == (2, 0)


def test_the_command_line_knows_the_job(capsys):
    assert cli.main(["launch", "nowhere"]) == 2
    assert (
        "sadist: sadist launch knows no nowhere; it is one of local, slurm, tpu-vm, jobset" in capsys.readouterr().err
    )


def test_the_readme_names_every_file():
    files = {path.name for path in (ROOT / "launch").iterdir()} - {"README.md", "Dockerfile.dockerignore"}
    text = (ROOT / "launch" / "README.md").read_text()
    assert {name for name in files if f"({name})" in text} == files
