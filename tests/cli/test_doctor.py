import collections
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from sadist_jax import cli
from sadist_jax.cli import _doctor_checks as checks
from sadist_jax.cli import _doctor_report as report
from sadist_jax.cli import _doctor_together as together
from sadist_jax.cli._doctor_checks import Finding
from sadist_jax.train import begin
from tests.parallel.pairs import pair
from tests.train.toy import toy_run

ROOT = Path(__file__).parents[2]
CONFIG = '''"""A toy."""

import dataclasses

from sadist_jax.data.folder import Folder
from sadist_jax.train.run import Data
from tests.train.toy import Points, toy_run


@dataclasses.dataclass(frozen=True)
class Photos(Points):
    def __call__(self, sample, rng):
        return super().__call__(int(sample.image[0, 0, 0]), rng)


def config():
    return toy_run({out!r}, data=Data(Folder({photos!r}), Photos()))
'''
CHECKS = ["devices", "software", "open files", "cache", "directory", "room", "data", "samples", "all-reduce"]


@pytest.fixture
def config(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in "abc":
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(photos / f"{name}.png")
    (tmp_path / "toy.py").write_text(CONFIG.format(out=str(tmp_path / "runs" / "toy"), photos=str(photos)))
    return str(tmp_path / "toy.py")


def told(text: str) -> dict[str, tuple[str, str]]:
    """{check: (state, sentence)} of the lines of a report."""
    found = {}
    for line in text.splitlines():
        for state in ("ok", "warning", "failed"):
            if line.startswith(f"{state:8} "):
                found[line[9:21].strip()] = (state, line[22:])
    return found


def diagnosis(capsys, *argv) -> tuple[int, dict[str, tuple[str, str]]]:
    code = cli.main(["doctor", *argv])
    return code, told(capsys.readouterr().out)


def test_a_healthy_machine(config, tmp_path, capsys):
    before = sorted(tmp_path.rglob("*"))
    code, found = diagnosis(capsys, config)
    assert code == 0
    assert list(found) == CHECKS
    assert not [check for check, (state, _) in found.items() if state == "failed"]
    assert found["devices"] == ("ok", "8 x cpu (cpu)")
    assert f"jax {jax.__version__}" in found["software"][1]
    assert found["data"][1].startswith("3 samples, fingerprint ")
    assert found["samples"][1].startswith("a.png, b.png, c.png: ")
    assert "4 MiB over 8 device(s)" in found["all-reduce"][1]
    assert [path for path in sorted(tmp_path.rglob("*")) if "__pycache__" not in str(path)] == before


def test_without_a_config_the_machine_alone(capsys):
    code, found = diagnosis(capsys)
    assert (code, list(found)) == (0, [*CHECKS[:4], "all-reduce"])


def test_room_is_compared_with_the_runs_state(config, tmp_path, monkeypatch, capsys):
    """The state is 12 steps of AdamW: parameters, both moments and the average; two counters beside them."""
    job = begin.plan_of(toy_run(tmp_path))
    params, moving = checks.nbytes(job.template.params), checks.nbytes(job.template)
    assert params == 4 * (4 + 4 * 16 + 16 + 16 * 16 + 16 + 16 * 2 + 1)
    assert 4 * params < moving < 4 * params + 64  # params, two moments, the method's own average
    needed = 3 * moving + 2 * params  # the two that stay and the one on its way
    usage = collections.namedtuple("usage", "free")
    monkeypatch.setattr(checks.shutil, "disk_usage", lambda folder: usage(needed))
    assert diagnosis(capsys, config)[0] == 0
    monkeypatch.setattr(checks.shutil, "disk_usage", lambda folder: usage(needed - 1))
    code, found = diagnosis(capsys, config)
    assert (code, found["room"][0]) == (2, "failed")
    assert "make room, choose another --out, or lower checkpoint.keep" in found["room"][1]
    code, found = diagnosis(capsys, config, "--checkpoint.keep-every", "4")  # 4, 8 and 12 beside them
    assert "for 6 checkpoints" in found["room"][1]
    (tmp_path / "runs" / "toy").mkdir(parents=True)
    (tmp_path / "runs" / "toy" / "kept").write_bytes(b"x")  # what is there need not be written again
    assert diagnosis(capsys, config)[0] == 0


def test_data_that_is_not_there(config, tmp_path, capsys):
    for photo in (tmp_path / "photos").iterdir():
        photo.unlink()
    code, found = diagnosis(capsys, config)
    assert (code, found["data"][0], "samples" in found) == (2, "failed", False)
    assert str(tmp_path / "photos") in found["data"][1]


def test_samples_that_cannot_be_read(config, tmp_path, capsys):
    (tmp_path / "photos" / "b.png").write_bytes(b"no picture")
    code, found = diagnosis(capsys, config)
    assert (code, found["samples"][0]) == (0, "warning")
    assert "1 of 3 cannot be read" in found["samples"][1]
    for name in "ac":
        (tmp_path / "photos" / f"{name}.png").write_bytes(b"no picture")
    code, found = diagnosis(capsys, config)
    assert (code, found["samples"][0]) == (2, "failed")


@pytest.mark.parametrize("out", ["/proc/sadist/run", "toy.py/run"])
def test_a_directory_that_cannot_be_written(config, tmp_path, capsys, out):
    code, found = diagnosis(capsys, config, "--out", str(tmp_path / out))
    assert (code, found["directory"][0]) == (2, "failed")
    assert "choose another directory" in found["directory"][1]


def test_a_run_that_cannot_be_laid_out(config, capsys):
    code, found = diagnosis(capsys, config, "--global-batch", "3")
    assert (code, found["room"][0]) == (2, "failed")
    assert "global_batch = 3 does not fit 8 device(s)" in found["room"][1]


def test_a_drive_that_gives_other_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "read_bytes", lambda file: b"other")
    finding = checks.examined("directory", lambda: checks._directory(toy_run(tmp_path)))
    assert finding.state == "failed"
    assert "gives other bytes than were written" in finding.sentence


def test_few_open_files_and_a_cache_that_cannot_be_written_are_warnings(monkeypatch, capsys):
    monkeypatch.setattr(checks.resource, "getrlimit", lambda which: (256, 4096))
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", "/proc/cache")
    try:
        code, found = diagnosis(capsys)
    finally:
        jax.config.update("jax_compilation_cache_dir", before)
    assert code == 0
    assert found["open files"] == ("warning", "256 at a time may be too few; raise the limit with `ulimit -n 4096`")
    assert found["cache"][0] == "warning"
    assert "set JAX_COMPILATION_CACHE_DIR to another folder" in found["cache"][1]


@pytest.mark.parametrize("job", ["doctor", "train"])
def test_devices_that_do_not_start_are_a_sentence(config, job):
    """In a process of its own: JAX starts its devices once."""
    environment = {**os.environ, "JAX_PLATFORMS": "no_such", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "sadist_jax", job, config]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    sentence = "JAX cannot start the devices of JAX_PLATFORMS=no_such: Unable to initialize backend 'no_such'"
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    if job == "doctor":
        state, said = told(done.stdout)["devices"]
        assert (state, said.startswith(sentence)) == ("failed", True)
    else:
        assert f"sadist: {sentence}" in done.stderr


def test_a_wrong_sum_is_found(monkeypatch, capsys):
    monkeypatch.setattr(together.jax, "jit", lambda add, **options: lambda rows: jax.numpy.asarray(add(rows) + 1))
    code, found = diagnosis(capsys)
    assert (code, found["all-reduce"][0]) == (3, "failed")


def test_a_bug_in_a_check_does_not_end_the_others():
    def look():
        raise ZeroDivisionError("by zero")

    assert checks.examined("x", look) == Finding("x", "failed", "ZeroDivisionError: by zero")


def test_options_need_a_config(capsys):
    assert cli.main(["doctor", "--steps", "3"]) == 2
    assert "--steps stands where `sadist doctor` takes the config" in capsys.readouterr().err


def test_help_imports_nothing_heavy():
    code = "import sys; from sadist_jax.cli import main; main(['doctor', '--help']); print(*sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert "usage: sadist doctor [CONFIG [options]]" in out
    loaded = {name.partition(".")[0] for name in out.splitlines()[-1].split()}
    assert not loaded & {"jax", "keras", "flax", "orbax", "grain", "tyro"}


def hosts_of(*states):
    """What hosts found, each in two checks."""
    return [(f"h{i}", [Finding("data", s, f"is {s}"), Finding("clocks", "ok", "so")]) for i, s in enumerate(states)]


def test_the_report_names_whom_it_concerns():
    lines = list(report.lines(hosts_of("ok", "failed", "ok")))
    assert lines[:2] == ["failed   data         process 1: is failed", "ok       clocks       so"]
    assert [line.split() for line in lines[3:7]] == [
        ["data", "clocks"],
        ["process", "0", "(h0)", "ok", "ok"],
        ["process", "1", "(h1)", "failed", "ok"],
        ["process", "2", "(h2)", "ok", "ok"],
    ]
    assert lines[-1] == "1 failed, 0 warning(s), 5 ok"


def test_what_all_say_is_said_once_and_many_good_hosts_share_a_row():
    assert next(report.lines(hosts_of("failed", "failed"))) == "failed   data         is failed"
    lines = list(report.lines(hosts_of("failed", *["ok"] * 30)))
    assert lines[-3] == "30 other processes: all ok"
    assert len(lines) == 2 + 1 + 3 + 2


def test_the_exit_code_says_whether_it_lies_between_hosts():
    local, between = Finding("data", "failed", ""), Finding("shared", "failed", "")
    assert [report.exit_code(found) for found in ([], [local], [local, between])] == [0, 2, 3]
    assert report.exit_code([Finding("shared", "warning", "")]) == 0


@pytest.mark.processes
@pytest.mark.timeout(300)
def test_two_hosts_are_examined_together(config, tmp_path):
    command = ["-m", "sadist_jax", "doctor", config]
    (code, output), (other, silent) = pair(command, command)
    assert (code, other) == (0, 0), output + silent
    found = told(output)
    assert {"coordinator", "agreement", "same data", "shared", "clocks"} < set(found)
    assert not told(silent)
    assert "4 MiB over 4 device(s)" in found["all-reduce"][1]
    assert sorted(path.name for path in tmp_path.iterdir() if path.name[0] != "_") == ["photos", "toy.py"]


@pytest.mark.processes
@pytest.mark.timeout(300)
def test_what_is_wrong_on_one_host_is_reported_by_process_0(config, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    command = ["-m", "sadist_jax", "doctor", config]
    theirs = [*command, "--data.source.root", str(tmp_path / "elsewhere"), "--out", str(tmp_path / "toy.py" / "run")]
    (code, output), (other, _) = pair(command, theirs)
    assert (code, other) == (3, 3), output
    found = told(output)
    assert found["data"] == ("failed", found["data"][1])
    assert found["data"][1].startswith("process 1: ")
    assert found["directory"][1].startswith("process 1: ")
    assert "data.source.root is " in found["agreement"][1]
    assert found["same data"][0] == "failed"
    assert found["all-reduce"][0] == "ok"
