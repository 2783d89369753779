"""`sadist launch local`, with stand-ins for the ranks that end as the test says (ends.py)."""

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sadist_jax.cli import _launch_local, launch
from sadist_jax.cli._launch_local import Options, default_logs, ranks
from sadist_jax.cli._launch_ranks import exit_code
from sadist_jax.errors import BadInput

HERE = Path(__file__).parent


def words(tmp_path: Path, plan: str, *options: str) -> list[str]:
    """What is typed after `sadist launch` to start two stand-ins."""
    prefix = shlex.join([sys.executable, str(HERE / "ends.py"), str(tmp_path), plan])
    fixed = ["--processes", "2", "--grace", "1", "--logs", str(tmp_path / "logs"), "--prefix", prefix]
    return ["local", *fixed, *options, "--", "train", "sam_mini"]


def starts(tmp_path: Path) -> list[list[str]]:
    """[of process 0, of process 1]: the address of each start."""
    return [(tmp_path / f"starts-{i}").read_text().splitlines() for i in range(2)]


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


def start(tmp_path: Path, plan: str) -> subprocess.Popen:
    """The launcher in a process of its own, as a shell starts it before `&`: with SIGINT ignored."""
    environment = {**os.environ, "PYTHONPATH": str(HERE.parents[1])}
    command = [sys.executable, "-m", "sadist_jax", "launch", *words(tmp_path, plan)]
    ignored = signal.signal(signal.SIGINT, signal.SIG_IGN)  # a child inherits this
    try:
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    finally:
        signal.signal(signal.SIGINT, ignored)


def wait_for(tmp_path: Path, process: subprocess.Popen) -> None:
    """Until both stand-ins listen for signals."""
    while not all((tmp_path / f"starts-{i}").exists() for i in range(2)):
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)


@pytest.mark.processes
@pytest.mark.timeout(120)
def test_sigterm_goes_on_to_all_and_the_launcher_says_75(tmp_path):
    process = start(tmp_path, "wait,wait;0,0")
    wait_for(tmp_path, process)
    process.send_signal(signal.SIGTERM)
    assert (process.communicate()[0].count("process 0 does"), process.returncode) == (1, 75)


@pytest.mark.processes
@pytest.mark.timeout(120)
def test_ctrl_c_reaches_ranks_even_where_it_was_ignored_before(tmp_path):
    """Python's own handler ends a stand-in (KeyboardInterrupt), which it would not be if the child had inherited it."""
    process = start(tmp_path, "deaf,deaf;0,0")
    wait_for(tmp_path, process)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate()
    assert process.returncode == 130
    assert "KeyboardInterrupt" in output


@pytest.mark.processes
@pytest.mark.timeout(120)
def test_a_second_signal_ends_ranks_that_do_not_listen(tmp_path):
    process = start(tmp_path, "deaf,deaf;0,0")
    wait_for(tmp_path, process)
    for _ in range(2):
        process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
    process.communicate()
    assert process.returncode == 3
    assert [len(each) for each in starts(tmp_path)] == [1, 1]


@pytest.mark.parametrize(
    ("ended", "code"),
    [
        ({0: 0, 1: 0}, 0),
        ({1: 75, 0: 75}, 75),
        ({1: 0, 0: 75}, 75),  # one had just finished
        ({1: -signal.SIGTERM, 0: 75}, 75),  # asked before it listened
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
    options = Options(2, devices_per_process=4, prefix='run "on {process}"', host="10.0.0.1")
    first, second = ranks(options, ["train", "x"], 1234)
    assert second.command == ["run", "on 1", sys.executable, "-m", "sadist_jax", "train", "x"]
    assert (first.environment["SADIST_PROCESS"], second.environment["SADIST_PROCESS"]) == ("0", "1")
    expected = {
        "SADIST_COORDINATOR": "10.0.0.1:1234",
        "SADIST_PROCESSES": "2",
        "SLURM_NTASKS": "1",
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
    ],
)
def test_options_that_cannot_be(options, sentence):
    with pytest.raises(BadInput, match=sentence):
        launch.main(["local", *options.split(), "--", "train", "x"])


def test_a_prefix_that_is_no_program(tmp_path):
    options = ["--processes", "2", "--prefix", "no-such-program", "--logs", str(tmp_path)]
    with pytest.raises(BadInput, match=r"no-such-program cannot be run \(No such file.*\); correct --prefix"):
        launch.main(["local", *options, "--", "train", "x"])
