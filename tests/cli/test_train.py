import json

import pytest

from sadist_jax import cli

CONFIG = '''"""A toy."""

from tests.train.toy import toy_run


def config():
    return toy_run({out!r})
'''


@pytest.fixture
def config(tmp_path):
    """A config outside the repository, with a name that is no identifier."""
    path = tmp_path / "my-toy.py"
    path.write_text(CONFIG.format(out=str(tmp_path / "out")))
    return path


def fails(capsys, *argv) -> str:
    """Exit code 2 and one line on stderr."""
    assert cli.main(["train", *map(str, argv)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_a_run_is_overridden_trained_and_exported(config, tmp_path, capsys):
    options = ["--steps", "3", "--optim.lr", "3e-4", "--method.noise", "0.5", "--log.every", "1"]
    assert cli.main(["train", str(config), *options]) == 0
    out = capsys.readouterr().out
    assert "toy starts: 3 steps of 8 samples, 8 cpu device(s)" in out
    assert "step 3/3  loss" in out
    saved = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (saved["optim"]["lr"], saved["method"]) == (
        3e-4,
        {"class": "Toy", "noise": 0.5, "momentum": 0.9, "poison": -1},
    )
    assert (tmp_path / "out" / "params.safetensors").exists()


def test_a_dry_run_shows_and_writes_nothing(config, tmp_path, capsys):
    assert cli.main(["train", str(config), "--dry-run", "--freeze", r"student\.blocks\..*"]) == 0
    out = capsys.readouterr().out
    assert '"steps": 12' in out
    counts = {line.split()[0]: int(line.split()[1]) for line in out.splitlines() if "parameters in" in line}
    blocks = 4 * 16 + 16 + 16 * 16 + 16
    total = 4 + blocks + 16 * 2 + 1
    assert counts == {"trained": total - blocks, "frozen": total + blocks, "extra": total}
    assert not (tmp_path / "out").exists()


def test_a_typo_gets_a_suggestion(config, capsys):
    with pytest.raises(SystemExit) as exit_:
        cli.main(["train", str(config), "--optim.weight-decy", "1"])
    assert exit_.value.code == 2
    assert "--optim.weight-decay" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("x = 1\n", "has no function `config() -> Run`"),
        ("def config(:\n", "line 1: invalid syntax"),
        ("def config():\n    return 3\n", "returns int; it must return"),
    ],
)
def test_a_file_that_is_no_config(tmp_path, capsys, text, why):
    path = tmp_path / "broken.py"
    path.write_text(text)
    assert why in fails(capsys, path)


def test_bad_input_is_one_sentence(config, capsys):
    assert "steps is 0; it must be 1 or more" in fails(capsys, config, "--steps", "0")
    assert "matches no parameter" in fails(capsys, config, "--freeze", "studnt")
    assert "there is no config nowhere.py" in fails(capsys, "nowhere.py")


def test_help_lists_the_configs_of_the_package(capsys):
    assert cli.main(["train", "--help"]) == 0
    assert "sam_mini, " in capsys.readouterr().out.partition("configs: ")[2]
