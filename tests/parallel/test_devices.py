import jax
import pytest

from sadist_jax.errors import BadInput, ClusterProblem
from sadist_jax.parallel import devices, hosts
from sadist_jax.parallel import mesh as meshes


def failing(error: Exception):
    def ask():
        raise error

    return ask


def test_those_that_start_are_all_there():
    assert devices.every() == devices.own() == jax.devices()


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (
            RuntimeError("Unable to initialize backend 'cuda': no driver\nand a stack"),
            "backend 'cuda': no driver; look",
        ),
        (AssertionError(), "there are none; look"),  # of JAX, with JAX_PLATFORMS=cuda where it sees no GPU
    ],
)
def test_those_that_do_not_start_are_bad_input(monkeypatch, error, reason):
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    monkeypatch.setattr(jax, "devices", failing(error))
    for ask in (devices.every, devices.own, lambda: meshes.make(meshes.MeshSpec())):
        with pytest.raises(BadInput, match=f"JAX_PLATFORMS=cuda: .*{reason} whether `nvidia-smi`"):
            ask()


@pytest.mark.parametrize(("connected", "expected"), [(True, ClusterProblem), (False, BadInput)])
def test_who_waits_for_the_devices_of_another_process_is_told_so(monkeypatch, connected, expected):
    error = RuntimeError("Unable to initialize backend 'cpu': DEADLINE_EXCEEDED: GetKeyValue() timed out with key")
    monkeypatch.setattr(jax, "devices", failing(error))
    monkeypatch.setattr(hosts, "connected", lambda: connected)
    with pytest.raises(expected):
        devices.every()
