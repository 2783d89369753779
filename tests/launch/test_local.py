"""`sadist launch local`: who starts again, and what each process is given. Its signals are in test_local_signals.py."""

import shlex
import signal
import sys
import time
from pathlib import Path

import pytest

from sadist_jax.cli import _launch_local, launch
from sadist_jax.cli._launch_local import Options, default_logs, ranks
from sadist_jax.cli._launch_ranks import exit_code
from sadist_jax.errors import BadInput
from tests.launch.stand_ins import starts, words


@pytest.fixture
def quick(monkeypatch):
    """No pause before a restart."""
    monkeypatch.setattr(_launch_local, "_LONGEST_PAUSE", 0.0)


@pytest.mark.processes
def test_all_ranks_get_the_same_address_and_their_own_number(tmp_path, capfd):
    assert launch.main(words(tmp_path, "0,0")) == 0
    first, second = starts(tmp_path)
    assert first == second
    address, processes = first[0].split()
    assert (address.partition(":")[0], processes) == ("127.0.0.1", "2")
    assert "process 0 does 0" in capfd.readouterr().out
    assert "process 1 does 0" in (tmp_path / "logs" / "rank-1.log").read_text()


@pytest.mark.processes
@pytest.mark.parametrize("lost", ["kill,deaf", "abort,wait", "wait,70", "deaf,3", "1,wait"])
def test_one_lost_rank_ends_the_others_and_all_start_again(tmp_path, quick, lost):
    begin = time.monotonic()
    assert launch.main(words(tmp_path, f"{lost};0,0")) == 0
    assert time.monotonic() - begin < 45  # a stand-in that is left alone takes a minute
    assert [len(each) for each in starts(tmp_path)] == [2, 2]


@pytest.mark.processes
@pytest.mark.parametrize(("plan", "code"), [("kill,wait", 3), ("wait,abort", 3), ("70,wait", 70), ("wait,1", 1)])
def test_after_too_many_restarts_the_first_failure_is_the_exit_code(tmp_path, quick, plan, code, capfd):
    assert launch.main(words(tmp_path, ";".join([plan] * 3), "--max-restarts", "2")) == code
    assert [len(each) for each in starts(tmp_path)] == [3, 3]
    assert f"ended with exit code {code} after 2 restarts" in capfd.readouterr().out


@pytest.mark.processes
@pytest.mark.parametrize("plan", ["2,2", "wait,2", "2,deaf"])
def test_bad_input_of_one_rank_is_not_tried_again(tmp_path, plan, capfd):
    assert launch.main(words(tmp_path, plan)) == 2
    assert [len(each) for each in starts(tmp_path)] == [1, 1]
    if plan == "wait,2":  # what the other ranks say is shown where it is the reason
        assert "process 1 ended with exit code 2; its last lines:\nprocess 1 does 2" in capfd.readouterr().out


@pytest.mark.processes
def test_progress_clears_the_count_of_restarts(tmp_path, quick, monkeypatch):
    monkeypatch.setattr(_launch_local, "PROGRESS", 0.0)
    assert launch.main(words(tmp_path, "kill,wait;kill,wait;kill,wait;0,0", "--max-restarts", "1")) == 0


@pytest.mark.processes
def test_ranks_that_were_asked_to_stop_by_others_go_on_without_being_counted(tmp_path):
    assert launch.main(words(tmp_path, "75,75;0,0", "--max-restarts", "0")) == 0


@pytest.mark.parametrize(
    ("ended", "code"),
    [
        ({0: 0, 1: 0}, 0),
        ({1: 75, 0: 75}, 75),
        ({1: 0, 0: 75}, 75),  # one had just finished
        ({1: -signal.SIGTERM, 0: 75}, 3),  # one of them did not save
        ({0: 143, 1: 143}, 3),
        ({1: -signal.SIGKILL, 0: -signal.SIGABRT}, 3),
        ({0: 134, 1: 75}, 3),
        ({0: 75, 1: 134}, 3),
        ({1: 70, 0: -signal.SIGTERM}, 70),
        ({1: 1, 0: -signal.SIGKILL}, 1),
        ({0: -signal.SIGTERM, 1: 2}, 2),
        ({0: 134, 1: 2}, 2),
        ({0: 130, 1: 130}, 130),
        ({0: -signal.SIGINT, 1: 130}, 130),
    ],
)
def test_exit_code_of_all_ranks(ended, code):
    assert exit_code(ended) == code


def test_environment_of_each_process(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_a=1")
    monkeypatch.setenv("SLURM_NTASKS", "8")
    monkeypatch.setenv("SADIST_HOSTS", "auto")
    options = Options(2, devices_per_process=4, prefix='run "on {process}"', host="10.0.0.1")
    first, second = ranks(options, ["train", "x"], 1234)
    assert second.command == ["run", "on 1", sys.executable, "-m", "sadist_jax", "train", "x"]
    assert (first.environment["SADIST_PROCESS"], second.environment["SADIST_PROCESS"]) == ("0", "1")
    expected = {
        "SADIST_COORDINATOR": "10.0.0.1:1234",
        "SADIST_PROCESSES": "2",
        "SLURM_NTASKS": "1",
        "SADIST_HOSTS": "",
        "XLA_FLAGS": "--xla_a=1 --xla_force_host_platform_device_count=4",
        "JAX_PLATFORMS": "cpu",
    }
    assert expected.items() <= first.environment.items()


@pytest.mark.parametrize(("outer", "expected"), [(None, ["0,1", "2,3"]), ("4,5,6,7", ["4,5", "6,7"])])
def test_each_process_gets_gpus_of_its_own(monkeypatch, outer, expected):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if outer is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", outer)
    found = ranks(Options(2, gpus_per_process=2), ["train", "x"], 1)
    assert [rank.environment["CUDA_VISIBLE_DEVICES"] for rank in found] == expected


def test_too_few_gpus_are_refused(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2")
    with pytest.raises(BadInput, match="CUDA_VISIBLE_DEVICES names 3 GPUs, fewer than 2 processes of 2"):
        ranks(Options(2, gpus_per_process=2), ["train", "x"], 1)


@pytest.mark.parametrize(
    ("job", "logs"),
    [
        ("train configs/sami_ti.py", "runs/sami_ti/logs"),
        ("train sami_ti:full1024 --steps 3", "runs/sami_ti/logs"),
        ("train x.py --out runs/mine", "runs/mine/logs"),
        ("label photos --out=labels", "labels/logs"),
    ],
)
def test_logs_lie_where_the_job_writes(job, logs):
    assert default_logs(job.split()) == Path(logs)


def test_a_dry_run_prints_the_commands(capsys):
    assert launch.main(["local", "--processes", "2", "--dry-run", "--", "train", "a b.py"]) == 0
    lines = [shlex.split(line) for line in capsys.readouterr().out.splitlines()]
    assert [line[-5:] for line in lines] == [[sys.executable, "-m", "sadist_jax", "train", "a b.py"]] * 2
    assert ["SADIST_PROCESS=1" in line for line in lines] == [False, True]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ("--processes 0", "--processes must be 1 or more"),
        ("--processes 1 --devices-per-process 0", "--devices-per-process must be 1 or more"),
        ("--processes 1 --devices-per-process 1 --gpus-per-process 1", "is not for it"),
        ("--processes 1 --prefix '", "--prefix ' is no command .*; close its quotes"),
        ("--processes 1 --logs /proc", "--logs /proc cannot be written .*; choose another folder"),
    ],
)
def test_options_that_cannot_be(options, sentence):
    with pytest.raises(BadInput, match=sentence):
        launch.main(["local", *options.split(), "--", "train", "x"])


def test_a_prefix_that_is_no_program(tmp_path):
    options = ["--processes", "2", "--prefix", "no-such-program", "--logs", str(tmp_path)]
    with pytest.raises(BadInput, match=r"no-such-program cannot be run \(No such file.*\); correct --prefix"):
        launch.main(["local", *options, "--", "train", "x"])
