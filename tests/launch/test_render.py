"""What `sadist launch` prints for clusters: against files that were read and approved, and word by word."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from sadist_jax import cli
from sadist_jax.cli import launch
from sadist_jax.errors import BadInput

ROOT = Path(__file__).parents[2]
GOLDEN = Path(__file__).parent / "golden"
JOB = ["--", "train", "sami_ti:full1024", "--optim.lr", "3e-4"]
ODD = ["train", "my config.py", "--out", 'runs/it\'s "mine" $HOME `x` \\', "--name", "a  b;c"]

SLURM = ["slurm", "--python", "python3"]
TPU_VM = ["tpu-vm", "--name", "my-tpu", "--zone", "us-central2-b"]
JOBSET = ["jobset", "--name", "my-run", "--image", "registry/sadist:1"]
TPU = ["--tpu", "tpu-v5-lite-podslice", "--topology", "4x8"]
GPU = ["--nodes", "4", "--gpus-per-node", "8"]
CASES = {
    "slurm.sbatch": [
        *SLURM,
        "--nodes",
        "4",
        "--gpus-per-node",
        "8",
        "--cpus-per-task",
        "12",
        "--sbatch=--partition=a100",
        *JOB,
    ],
    "slurm-cpu.sbatch": [
        *[*SLURM, "--tasks-per-node", "2", "--coordinator", "10.0.0.1:1234", "--name", "two words"],
        *["--setup", "module load python", *JOB],
    ],
    "tpu_vm.sh": [*TPU_VM, *JOB],
    "tpu_vm-spot.sh": [
        *[
            *TPU_VM,
            "--project",
            "p",
            "--spot",
            "--accelerator-type",
            "v5litepod-32",
            "--version",
            "v2-alpha-tpuv5-lite",
        ],
        *["--setup", "sudo mount 10.0.0.2:/share ~/sadist/runs", *JOB],
    ],
    "jobset.yaml": [*JOBSET, *TPU, "--bucket", "my-bucket", "--service-account", "writer", "--queue", "research", *JOB],
    "jobset-gpu.yaml": [*JOBSET, *GPU, "--gpu", "nvidia-h100-80gb", "--claim", "runs", *JOB],
}


def printed(argv: list[str], capsys) -> str:
    assert launch.main(argv) == 0
    out, err = capsys.readouterr()
    assert "nothing was started" in err
    return out


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


def load(name: str) -> dict:
    return yaml.safe_load((GOLDEN / name).read_text())


def pod_job(jobset: dict) -> dict:
    (replicated,) = jobset["spec"]["replicatedJobs"]
    assert (replicated["name"], replicated["replicas"]) == ("hosts", 1)
    return replicated["template"]["spec"]


@pytest.mark.parametrize(("name", "hosts"), [("jobset.yaml", 8), ("jobset-gpu.yaml", 4)])
def test_exit_codes_decide_in_a_jobset(name, hosts):
    """2 fails the job by a rule, and only that reason ends the JobSet; 75 is ignored; anything else is a restart."""
    jobset = load(name)
    assert (jobset["apiVersion"], jobset["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    assert jobset["spec"]["failurePolicy"] == {
        "maxRestarts": 10,
        "rules": [{"action": "FailJobSet", "onJobFailureReasons": ["PodFailurePolicy"]}],
    }
    job = pod_job(jobset)
    assert (job["completionMode"], job["completions"], job["parallelism"]) == ("Indexed", hosts, hosts)
    assert job["backoffLimit"] == 0
    rules = {rule["action"]: rule["onExitCodes"] for rule in job["podFailurePolicy"]["rules"]}
    assert [rules[action]["values"] for action in ("FailJob", "Ignore")] == [[2], [75, 143]]
    pod = job["template"]["spec"]
    assert {rule["containerName"] for rule in rules.values()} == {each["name"] for each in pod["containers"]}
    assert pod["restartPolicy"] == "Never"  # or Kubernetes refuses a podFailurePolicy
    assert pod["terminationGracePeriodSeconds"] == 120


@pytest.mark.parametrize(("name", "hosts"), [("jobset.yaml", "8"), ("jobset-gpu.yaml", "4")])
def test_pods_of_a_jobset_find_each_other(name, hosts):
    jobset = load(name)
    (container,) = pod_job(jobset)["template"]["spec"]["containers"]
    variables = {each["name"]: each for each in container["env"]}
    # JobSet calls pods <jobset>-<replicated job>-<its index>-<pod's index>, in a service of the JobSet's name
    assert variables["SADIST_COORDINATOR"]["value"] == "my-run-hosts-0-0.my-run:8476"
    assert variables["SADIST_PROCESSES"]["value"] == hosts
    field = variables["SADIST_PROCESS"]["valueFrom"]["fieldRef"]["fieldPath"]
    assert field == "metadata.annotations['batch.kubernetes.io/job-completion-index']"
    assert container["ports"] == [{"containerPort": 8476}]
    assert container["args"] == JOB[1:]


def test_devices_and_volumes_of_a_jobset():
    tpu, gpu = (pod_job(load(name))["template"] for name in ("jobset.yaml", "jobset-gpu.yaml"))
    assert tpu["spec"]["containers"][0]["resources"] == {"limits": {"google.com/tpu": 4}}
    assert tpu["spec"]["nodeSelector"] == {
        "cloud.google.com/gke-tpu-accelerator": "tpu-v5-lite-podslice",
        "cloud.google.com/gke-tpu-topology": "4x8",
    }
    assert gpu["spec"]["containers"][0]["resources"] == {"limits": {"nvidia.com/gpu": 8}}
    assert gpu["spec"]["nodeSelector"] == {"cloud.google.com/gke-accelerator": "nvidia-h100-80gb"}
    assert tpu["metadata"]["annotations"] == {"gke-gcsfuse/volumes": "true"}  # without it the bucket is not mounted
    volumes = [{each["name"]: each for each in template["spec"]["volumes"]} for template in (tpu, gpu)]
    assert volumes[0]["runs"]["csi"]["driver"] == "gcsfuse.csi.storage.gke.io"
    assert volumes[0]["runs"]["csi"]["volumeAttributes"]["bucketName"] == "my-bucket"
    assert volumes[1]["runs"]["persistentVolumeClaim"] == {"claimName": "runs"}
    for template in (tpu, gpu):
        mounts = {each["name"]: each["mountPath"] for each in template["spec"]["containers"][0]["volumeMounts"]}
        assert mounts == {"runs": "/work/runs", "shm": "/dev/shm"}


def test_the_image_can_write_what_the_pods_mount():
    """One user everywhere: of the image, of the pod, of the claim (fsGroup) and of the mounted bucket."""
    docker = (ROOT / "launch" / "Dockerfile").read_text()
    assert "useradd --uid 1000" in docker
    assert "USER 1000:1000\nWORKDIR /work\n" in docker
    for name in ("jobset.yaml", "jobset-gpu.yaml"):
        pod = pod_job(load(name))["template"]["spec"]
        expected = {"runAsNonRoot": True, "runAsUser": 1000, "runAsGroup": 1000, "fsGroup": 1000}
        assert pod["securityContext"] == expected
        assert pod["containers"][0]["workingDir"] == "/work"
    options = pod_job(load("jobset.yaml"))["template"]["spec"]["volumes"][0]["csi"]["volumeAttributes"]["mountOptions"]
    assert "uid=1000,gid=1000" in options
    for sources in re.findall(r"^COPY (.*) \S+$", docker, re.MULTILINE):
        assert all((ROOT / source).exists() for source in sources.split())


def test_yaml_reads_back_the_words_of_the_job(capsys):
    text = printed([*JOBSET, *GPU, "--claim", "runs", "--", *ODD], capsys)
    (container,) = pod_job(yaml.safe_load(text))["template"]["spec"]["containers"]
    assert container["args"] == ODD


REFUSED = [
    (["slurm", "--nodes", "0", *JOB], "--nodes must be 1 or more"),
    (["slurm", "--gpus-per-node", "2", "--tasks-per-node", "2", *JOB], "one task a GPU"),
    (["slurm", "--cpus-per-task", "0", *JOB], "--cpus-per-task must be 1 or more"),
    (["slurm", "--sbatch=partition", *JOB], "is no option of sbatch"),
    (["slurm", "--name", "a\nb", *JOB], "line break"),
    (["slurm", "--", "train", "a\nb"], "line break"),
    (["slurm"], "one of train, features, label"),
    (["slurm", "--", "predict", "x"], "one of train, features, label"),
    (["pbs", *JOB], "knows no pbs"),
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
]


@pytest.mark.parametrize(("argv", "sentence"), REFUSED)
def test_what_cannot_be_is_refused(argv, sentence):
    with pytest.raises(BadInput, match=re.escape(sentence)):
        launch.main(argv)


@pytest.mark.parametrize(
    ("argv", "program"), [(SLURM, "sbatch"), ([*JOBSET, *GPU, "--claim", "runs"], "kubectl"), (TPU_VM, "bash")]
)
def test_submit_hands_over_what_is_printed(argv, program, tmp_path, monkeypatch, capsys):
    """A stand-in on PATH keeps its words and its standard input."""
    text = printed([*argv, *JOB], capsys)
    stand_in = tmp_path / program
    stand_in.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >{tmp_path}/words\ncat >{tmp_path}/stdin\nexit 7\n')
    stand_in.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert launch.main([*argv, "--submit", *JOB]) == 7
    given = (tmp_path / "words").read_text()
    if program == "bash":
        assert given == f"-c\n{text}\n"
    else:
        assert given.split() == {"sbatch": [], "kubectl": ["create", "-f", "-"]}[program]
        assert (tmp_path / "stdin").read_text() == text


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
