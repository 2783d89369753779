import ast
import json
import resource
import subprocess
import sys

import pytest

import sadist_jax
from sadist_jax import cli

JOB = '''"""Count the arguments.

More about it.
"""

from sadist_jax.errors import BadInput


def main(argv):
    if "bad" in argv:
        raise BadInput("photo.png is empty; give a PNG or JPEG file")
    if "ctrl-c" in argv:
        raise KeyboardInterrupt
    print(len(argv))
    return 3 if "three" in argv else None
'''


@pytest.fixture
def job(tmp_path, monkeypatch):
    """A job of the name `count-args`, in a folder beside the real ones."""
    (tmp_path / "count_args.py").write_text(JOB)
    monkeypatch.setattr(cli, "__path__", [*cli.__path__, str(tmp_path)])
    yield
    sys.modules.pop("sadist_jax.cli.count_args", None)


def test_help_lists_every_job_with_the_first_line_of_its_file(job, capsys):
    assert cli.main(["--help"]) == 0
    lines = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    assert ["count-args", "Count the arguments"] in lines


def test_a_job_gets_the_rest_of_the_line_and_its_code_is_returned(job, capsys):
    assert cli.main(["count-args", "a", "--help"]) == 0
    assert capsys.readouterr().out == "2\n"
    assert cli.main(["count-args", "three"]) == 3


@pytest.mark.parametrize(("typed", "hint"), [("count-arg", "did you mean `sadist count-args`?"), ("zzz", "--help")])
def test_an_unknown_job_gets_a_suggestion(job, capsys, typed, hint):
    assert cli.main([typed]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert repr(typed) in err
    assert hint in err
    assert err.count("\n") == 1


def test_bad_input_is_one_sentence_and_code_2(job, capsys):
    assert cli.main(["count-args", "bad"]) == 2
    assert capsys.readouterr().err == "sadist: photo.png is empty; give a PNG or JPEG file\n"


def test_an_interrupt_is_130_without_a_traceback(job, capsys):
    assert cli.main(["count-args", "ctrl-c"]) == 130
    assert capsys.readouterr().err == "sadist: interrupted\n"


def test_version(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"sadist_jax {sadist_jax.__version__}\n"


def test_nothing_typed_shows_the_help_and_fails(capsys):
    assert cli.main([]) == 2
    assert capsys.readouterr().out.startswith("usage: sadist JOB")


def test_help_is_quick_and_imports_nothing_heavy():
    code = """
import json, sys
from sadist_jax.cli import main
main(["--help"])
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    loaded = set(json.loads(out.splitlines()[-1]))
    assert not loaded & {"jax", "numpy", "keras", "flax", "tyro", "rich", "grain"}
    # processor time, not the clock: the tests share two cores with other work
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.5


def test_every_job_has_a_main_and_a_summary():
    for name, file in cli._jobs().items():
        tree = ast.parse(file.read_text())
        assert any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in tree.body), name
        assert cli._summary(file), name


def test_the_cache_folder_may_be_chosen(monkeypatch, tmp_path):
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cli.use_compilation_cache()
    assert cli.os.environ["JAX_COMPILATION_CACHE_DIR"] == str(tmp_path / "sadist_jax" / "xla")
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "/elsewhere")
    cli.use_compilation_cache()
    assert cli.os.environ["JAX_COMPILATION_CACHE_DIR"] == "/elsewhere"
