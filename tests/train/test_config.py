import sys

import pytest

from sadist_jax.errors import BadInput
from sadist_jax.train import config


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """A package with one config, seen from another directory."""
    folder = tmp_path / "package"
    folder.mkdir()
    (folder / "sam_mini.py").write_text("def config():\n    return 3\n")
    (folder / "_part.py").write_text("")
    monkeypatch.setattr(config, "SHIPPED", (tmp_path / "missing", folder))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    return folder


@pytest.mark.parametrize("name", ["sam_mini", "sam_mini.py", "configs/sam_mini.py"])
def test_configs_of_the_package_are_found_by_name(shipped, name):
    assert config.find(name) == shipped / "sam_mini.py"
    assert config.names() == ["sam_mini"]


def test_a_file_comes_before_the_package(shipped, tmp_path):
    (tmp_path / "sam_mini.py").write_text("")
    assert config.find("sam_mini.py").samefile(tmp_path / "sam_mini.py")


@pytest.mark.parametrize(
    ("name", "hint"), [("sam_mni", "did you mean sam_mini?"), ("else/sam_mini.py", "sam_mini"), ("xyz", "--help")]
)
def test_a_name_that_is_not_there(shipped, name, hint):
    with pytest.raises(BadInput, match=rf"there is no config {name}; .*{hint}"):
        config.find(name)


def test_a_config_is_executed_and_may_import_its_neighbours(shipped):
    (shipped / "neighbour_of_x.py").write_text("number = 7\n")
    (shipped / "x.py").write_text("from neighbour_of_x import number\n\n\ndef config():\n    return number\n")
    assert config.load(config.find("x")).config() == 7


def test_a_config_elsewhere_may_import_those_of_the_package(shipped, tmp_path):
    (shipped / "recipe_of_y.py").write_text("number = 8\n")
    (tmp_path / "y.py").write_text("from recipe_of_y import number\n\n\ndef config():\n    return number\n")
    assert config.load(tmp_path / "y.py").config() == 8


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("x.py", "x = 1\n", "has no function"),
        ("x.py", "def config(:\n", "line 1"),
        ("x.py", "import nothing_like_it\n", "imports what is not there.*nothing_like_it"),
        ("x.txt", "", "not a Python file"),
    ],
)
def test_a_file_that_is_no_config(tmp_path, name, text, why):
    (tmp_path / name).write_text(text)
    with pytest.raises(BadInput, match=rf"{name}.*{why}"):
        config.load(tmp_path / name)


def test_values_after_a_colon_go_to_config(tmp_path):
    (tmp_path / "y.py").write_text(
        "from typing import Literal\n\n\ndef config(view: Literal['near', 'far'] = 'near'):\n    return view\n"
    )
    path = tmp_path / "y.py"
    assert [config.make(f"{path}{end}")[0] for end in ("", ":near", ":far")] == ["near", "near", "far"]
    for wrong in (":nowhere", ":near:far", ":"):
        with pytest.raises(BadInput, match=r"is named y or y:{near,far}"):
            config.make(f"{path}{wrong}")
