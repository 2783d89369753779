"""Two steps of WeSAM against the same two in PyTorch: every loss, the gradient, and what Adam makes of it."""

import numpy as np
import pytest

from benchmarks import torch_lora, weak_step

OPTIONS = {"size": "mini", "instances": 3, "chunk": 2}
CLOSE = 1e-4  # losses are of the order of one, the gradient's norm of three


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("weak_step")
    weak_step.prepare(path, **OPTIONS)
    return path


@pytest.fixture(scope="module")
def ours(folder):
    return weak_step.ours(folder, **OPTIONS).outputs()


def differences(outputs, ours):
    return {name: float(np.abs(outputs[name] - value)) for name, value in ours.items()}


@pytest.mark.parametrize("how", ["eager", "again"])
def test_two_steps_agree(folder, ours, how):
    found = differences(getattr(weak_step, how)(folder, **OPTIONS).outputs(), ours)
    print(found)
    assert max(found.values()) < CLOSE


def test_the_anchors_embedding_may_be_given(folder, ours):
    assert max(differences(weak_step.given(folder, **OPTIONS).outputs(), ours).values()) < CLOSE


@pytest.mark.parametrize(
    ("mistake", "value", "shows"),
    [("SMOOTH", 100.0, "dice 0"), ("WEIGHTS", {**torch_lora.WEIGHTS, "focal": 1.0}, "grad_norm 0")],
)
def test_a_mistake_shows(folder, ours, monkeypatch, mistake, value, shows):
    monkeypatch.setattr(torch_lora, mistake, value)
    found = differences(weak_step.eager(folder, **OPTIONS).outputs(), ours)
    assert found[shows] > CLOSE
