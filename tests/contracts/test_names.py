"""House rules on files and functions that a person would otherwise have to remember."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LONGEST_FILE = 320
LONGEST_FUNCTION = 60  # without its docstring; about 40 is meant
FORBIDDEN = re.compile(r"(^|/)(utils?|helpers?|misc|common)(\.py|/)|_(v\d+|new|old|final)(\.py|/)", re.IGNORECASE)


def complaints(name: str, source: str) -> list[str]:
    """What the rules say against the file `name` (relative to the repository) with this source."""
    found = []
    if FORBIDDEN.search(name):
        found.append(f"{name}: name the file after the one noun it holds, and replace what it supersedes")
    if (lines := source.count("\n")) > LONGEST_FILE:
        found.append(f"{name}: {lines} lines, at most {LONGEST_FILE}")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (length := _length(node)) > LONGEST_FUNCTION:
            found.append(f"{name}: {node.name} has {length} lines, at most {LONGEST_FUNCTION}")
    return found


def _length(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    body = node.body[ast.get_docstring(node) is not None :]
    return node.end_lineno - body[0].lineno + 1 if body else 0


def test_files_and_functions_stay_short_and_well_named():
    files = sorted((ROOT / "sadist_jax").rglob("*.py"))
    assert [why for file in files for why in complaints(file.relative_to(ROOT).as_posix(), file.read_text())] == []


def test_public_modules_say_what_they_are():
    files = sorted((ROOT / "sadist_jax").rglob("*.py"))
    silent = [f for f in files if (text := f.read_text()).strip() and ast.get_docstring(ast.parse(text)) is None]
    assert silent == []


@pytest.mark.parametrize(
    ("name", "source", "why"),
    [
        ("sadist_jax/utils.py", "", "noun"),
        ("sadist_jax/models/utils/boxes.py", "", "noun"),
        ("sadist_jax/models/vit_v2.py", "", "noun"),
        ("sadist_jax/models/vit.py", "x = 1\n" * (LONGEST_FILE + 1), "lines"),
        ("sadist_jax/models/vit.py", "def f():\n" + "    x = 1\n" * (LONGEST_FUNCTION + 1), "f has"),
    ],
)
def test_a_breach_is_found(name, source, why):
    (found,) = complaints(name, source)
    assert why in found


def test_docstrings_do_not_make_a_function_long():
    assert complaints("sadist_jax/models/vit.py", 'def f():\n    """' + "text\n" * 200 + '"""\n    return 1\n') == []
    assert complaints("sadist_jax/models/mobile_sam_v20_notes.py", "") == []


def test_the_pinned_versions_have_no_addresses():
    lines = (ROOT / "constraints-py311.txt").read_text().splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+==[0-9][0-9A-Za-z.]*", line) for line in pins)
    assert len({line.partition("==")[0].lower() for line in pins}) == len(pins)
