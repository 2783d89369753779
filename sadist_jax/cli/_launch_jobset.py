"""`sadist launch jobset`: launch/jobset.yaml (TPU) or launch/jobset-gpu.yaml for one run."""

import dataclasses
import math
import re
from collections.abc import Sequence
from typing import Any

from sadist_jax.cli._launch_template import fill, out_of, refuse_own_config, show_or_hand_over, yaml
from sadist_jax.errors import BadInput

COMMAND = ("kubectl", "create", "-f", "-")
MOUNTED = "/work/runs"  # in the pods; /work is where they start
NODE_POOL = "cloud.google.com/gke-nodepool"  # label of GKE's nodes; a TPU slice is one pool
PORT = 8476
USER = 1000  # of launch/Dockerfile


@dataclasses.dataclass(frozen=True)
class Options:
    """A Kubernetes JobSet, one pod a host, in the image of launch/Dockerfile; printed, or given to kubectl.

    For a TPU slice: --tpu and --topology. For GPUs: --nodes and --gpus-per-node. What the run writes below `runs` goes
    to the volume: --claim or --bucket.
    """

    name: str
    """of the JobSet: small letters, digits and hyphens"""
    image: str
    """with its registry"""
    claim: str | None = None
    """PersistentVolumeClaim that all pods may write (ReadWriteMany)"""
    bucket: str | None = None
    """bucket of Google Cloud Storage, mounted by GKE's FUSE driver; --service-account must be allowed to write it"""
    tpu: str | None = None
    """kind of TPU, as GKE's node label has it: tpu-v5-lite-podslice"""
    topology: str | None = None
    """of the TPU slice: 4x8"""
    chips_per_host: int = 4
    """TPU chips of a host"""
    nodes: int | None = None
    """nodes with GPUs"""
    gpus_per_node: int = 0
    """GPUs of a node"""
    gpu: str | None = None
    """kind of GPU, as GKE's node label has it: nvidia-h100-80gb; any if none is named"""
    service_account: str = "default"
    """of Kubernetes"""
    queue: str | None = None
    """Kueue's local queue"""
    max_restarts: int = 10
    """of all pods together, after one was lost; pods that were asked to stop (exit code 75) are not counted"""
    dry_run: bool = False
    """print only, as without --submit"""
    submit: bool = False
    """give it to `kubectl create -f -`"""


def launch(options: Options, job: Sequence[str]) -> int:
    """Print the JobSet, or create it; returns the exit code."""
    return show_or_hand_over(render(options, job), COMMAND, options)


def render(options: Options, job: Sequence[str]) -> str:
    """The JobSet of these options."""
    _check(options)
    _check_out(job)
    refuse_own_config(job, "/work", "runs")
    values: dict[str, Any] = {
        "name": options.name,
        "jobset_annotations": {},
        "labels": {} if options.queue is None else {"kueue.x-k8s.io/queue-name": options.queue},
        "annotations": {} if options.bucket is None else {"gke-gcsfuse/volumes": "true"},
        "image": options.image,
        "arguments": list(job),
        "service_account": options.service_account,
        "volume": _volume(options),
        # JobSet's name of the first pod, in its headless service
        "coordinator": f"{options.name}-hosts-0-0.{options.name}:{PORT}",
        "max_restarts": options.max_restarts,
    }
    if options.tpu is not None:
        chips, hosts = options.chips_per_host, _hosts(options)
        if hosts > 1:
            # pods of one slice only: the selector fits every slice of this kind. Of slices with one host it would keep
            # a whole node pool for one pod
            values["jobset_annotations"] = {"alpha.jobset.sigs.k8s.io/exclusive-topology": NODE_POOL}
        values |= {"hosts": hosts, "accelerator": options.tpu, "topology": options.topology, "chips": chips}
    else:
        selector = {} if options.gpu is None else {"cloud.google.com/gke-accelerator": options.gpu}
        values |= {"hosts": options.nodes, "gpus": options.gpus_per_node, "node_selector": selector}
    name = "jobset-gpu.yaml" if options.tpu is None else "jobset.yaml"
    return fill(name, {key: yaml(value) for key, value in values.items()})


def _volume(options: Options) -> dict[str, Any]:
    if options.claim is not None:
        return {"name": "runs", "persistentVolumeClaim": {"claimName": options.claim}}
    mount = {"bucketName": options.bucket, "mountOptions": f"implicit-dirs,uid={USER},gid={USER}"}
    return {"name": "runs", "csi": {"driver": "gcsfuse.csi.storage.gke.io", "volumeAttributes": mount}}


def _hosts(options: Options) -> int:
    """Hosts of the TPU slice."""
    if options.topology is None or not re.fullmatch(r"[1-9]\d*(x[1-9]\d*){1,2}", options.topology):
        raise BadInput(f"--topology {options.topology} is not like 4x8 or 4x4x4")
    chips = math.prod(int(side) for side in options.topology.split("x"))
    if options.chips_per_host < 1 or chips % options.chips_per_host:
        raise BadInput(
            f"the {chips} chips of --topology are not whole hosts of --chips-per-host {options.chips_per_host}"
        )
    return chips // options.chips_per_host


def _check(options: Options) -> None:
    if not re.fullmatch(r"[a-z]([-a-z0-9]{0,38}[a-z0-9])?", options.name):
        raise BadInput(
            f"--name {options.name} is no name of a JobSet; use up to 40 small letters, digits and hyphens, with a "
            "letter first"
        )
    if (options.claim is None) == (options.bucket is None):
        raise BadInput("name the volume of the runs: either --claim or --bucket")
    if options.bucket is not None and ("/" in options.bucket or ":" in options.bucket):
        raise BadInput(f"--bucket {options.bucket} must be the bucket's name alone, without gs:// and folders")
    if options.max_restarts < 0:
        raise BadInput("--max-restarts must be 0 or more")
    for_gpus = options.nodes is not None or options.gpus_per_node or options.gpu is not None
    if (options.tpu is None) != (options.topology is None) or (options.tpu is not None) == bool(for_gpus):
        raise BadInput("say what the pods run on: either --tpu and --topology, or --nodes and --gpus-per-node")
    if options.tpu is None and ((options.nodes or 0) < 1 or options.gpus_per_node < 1):
        raise BadInput("--nodes and --gpus-per-node must be 1 or more")


def _check_out(job: Sequence[str]) -> None:
    """A pod's own disk is gone with it, so what is written must go to the volume."""
    out = out_of(job)
    if out is not None and ("://" in out or ".." in out or not out.startswith(("runs/", f"{MOUNTED}/"))):
        raise BadInput(f"--out {out} would be lost with the pod; the volume is mounted as runs: --out runs/NAME")
