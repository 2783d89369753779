"""What is typed for clusters after `sadist launch`, and what it prints; golden/ holds that of CASES."""

from pathlib import Path

from sadist_jax.cli import launch

ROOT = Path(__file__).parents[2]
GOLDEN = Path(__file__).parent / "golden"
JOB = ["--", "train", "sami_ti:full1024", "--optim.lr", "3e-4"]
ODD = ["train", "my config.py", "--out", 'runs/it\'s "mine" $HOME `x` \\', "--name", "a  b;c"]

SLURM = ["slurm", "--python", "python3"]
TPU_VM_BARE = ["tpu-vm", "--name", "my-tpu", "--zone", "us-central2-b"]
TPU_VM = [*TPU_VM_BARE, "--requirement", "sadist_jax[tpu] @ git+https://host/owner/sadist_jax"]
JOBSET = ["jobset", "--name", "my-run", "--image", "registry/sadist:1"]
TPU = ["--tpu", "tpu-v5-lite-podslice", "--topology", "4x8"]
GPU = ["--nodes", "4", "--gpus-per-node", "8"]
CASES = {
    "slurm.sbatch": [*SLURM, *GPU, "--cpus-per-task", "12", "--sbatch=--partition=a100", *JOB],
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
