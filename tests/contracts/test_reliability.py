"""The fault table of docs/reliability.md: every test that it names exists."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TABLE = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
NAMED = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", TABLE)
ROWS = [line for line in TABLE.splitlines() if line.startswith("|") and not set(line) <= set("|- ")]


@pytest.mark.parametrize(("file", "test"), NAMED)
def test_the_test_of_a_fault_exists(file, test):
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    assert test in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("row", [row for row in ROWS if not row.startswith("| fault |")])
def test_every_fault_has_a_test(row):
    assert re.search(r"`tests/[\w/]+\.py::\w+`", row)
