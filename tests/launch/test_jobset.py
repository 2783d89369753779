"""The JobSets of `sadist launch jobset`, field by field against what JobSet, Kubernetes and GKE ask for."""

import re

import pytest
import yaml

from tests.launch.rendered import GOLDEN, GPU, JOB, JOBSET, ODD, ROOT, printed


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


def test_the_pods_of_a_tpu_slice_are_on_one_slice(capsys):
    """The selector fits every slice of the kind. Alone on a host, a pod needs no pool of nodes for itself."""
    key = "alpha.jobset.sigs.k8s.io/exclusive-topology"
    assert load("jobset.yaml")["metadata"]["annotations"] == {key: "cloud.google.com/gke-nodepool"}
    one = printed([*JOBSET, "--tpu", "tpu-v5-lite-podslice", "--topology", "2x2", "--claim", "c", *JOB], capsys)
    assert pod_job(yaml.safe_load(one))["completions"] == 1
    assert yaml.safe_load(one)["metadata"]["annotations"] == {}


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
