"""Exit codes that a launcher reads: `note_exit`, and who calls it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sadist_jax import cli
from sadist_jax.errors import CODES, note_exit

ROOT = Path(__file__).parents[1]


@pytest.fixture
def noted(tmp_path, monkeypatch):
    """The file of task 3."""
    monkeypatch.setenv(CODES, str(tmp_path))
    monkeypatch.setenv("SLURM_PROCID", "3")
    before = signal.getsignal(signal.SIGTERM)
    yield tmp_path / "3"
    signal.signal(signal.SIGTERM, before)


def test_the_first_code_of_a_process_counts(noted):
    noted.touch()  # as the launcher does
    note_exit(1)
    note_exit(143)
    assert noted.read_text() == "1\n"


def test_without_the_variable_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.delenv(CODES, raising=False)
    monkeypatch.chdir(tmp_path)
    note_exit(1)
    assert not list(tmp_path.iterdir())


def test_a_code_that_cannot_be_noted_is_said_and_no_error(noted, monkeypatch, capfd):
    monkeypatch.setenv(CODES, str(noted / "gone"))
    note_exit(75)
    assert "the exit code 75 cannot be noted in" in capfd.readouterr().err


@pytest.mark.parametrize(("argv", "code"), [(["--help"], 0), (["nonsense"], 2)])
def test_the_command_line_notes_how_it_ends(noted, argv, code):
    assert cli.main(argv) == code
    assert noted.read_text() == f"{code}\n"


@pytest.mark.parametrize(("options", "code"), [(["--help"], 0), (["--nonsense", "--", "train", "x"], 2)])
def test_so_it_does_where_the_parser_of_options_ends_it(noted, options, code):
    with pytest.raises(SystemExit):
        cli.main(["launch", "slurm", *options])
    assert noted.read_text() == f"{code}\n"


def test_a_bug_is_noted(noted, monkeypatch):
    monkeypatch.setattr(cli, "_jobs", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cli.main(["train"])
    assert noted.read_text() == "1\n"


FORK = """
def jobs():
    if child := os.fork():
        os.waitpid(child, 0)
        return {}
    os.kill(os.getpid(), 15)

cli._jobs = jobs
"""
ENDS = {
    "a SIGTERM before the job listens": (143, "cli._jobs = lambda: os.kill(os.getpid(), 15)", ""),
    "but not that of a child, which inherits the handler": (0, FORK, ""),
    "a hang": (70, "", "dog.Watchdog(0.1, Path(os.devnull)).__enter__(); time.sleep(60)"),
    "who leaves the others": (3, "", "hosts.connected = lambda: True; hosts._coordinates = False; hosts.leave(3)"),
}


@pytest.mark.processes
@pytest.mark.parametrize("what", ENDS)
def test_ends_that_pass_by_the_command_line_are_noted(noted, what):
    code, before, after = ENDS[what]
    imports = "import os, time; from pathlib import Path; from sadist_jax import cli"
    more = "from sadist_jax.parallel import hosts; from sadist_jax.train import watchdog as dog" if after else ""
    program = "\n".join([imports, more, before, after or "cli.main(['--help'])"])
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=dict(os.environ), timeout=120, capture_output=True)
    assert noted.read_text() == f"{code}\n"
