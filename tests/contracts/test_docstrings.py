"""The examples in the docstrings run, and print what they say."""

import doctest
import importlib

import pytest

from tests.contracts.imports import PACKAGE, read_package
from tests.contracts.test_floors import ROOT

EXAMPLES = sorted(module for module, source in read_package(ROOT / PACKAGE).items() if ">>> " in source)


@pytest.mark.parametrize("module", EXAMPLES)
def test_examples_run(module, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # some write a file
    assert doctest.testmod(importlib.import_module(module)).failed == 0


def test_modules_with_examples_are_found():
    assert {f"{PACKAGE}.losses", f"{PACKAGE}.models.sam", f"{PACKAGE}.weights.digest"} <= set(EXAMPLES)
