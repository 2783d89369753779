import gc
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from sadist_jax.errors import BadInput
from sadist_jax.parallel.mesh import MeshSpec, make
from sadist_jax.train.checkpoint import Checkpoints, CheckpointSpec, read_params
from sadist_jax.train.state import State
from tests.train.toy import assert_same_bits

IDENTITY = {"data": "abc", "seed": 0, "global_batch": 8}


def state_at(step, size=300):
    value = jax.random.normal(jax.random.key(step), (size, 8))
    return State(jnp.int32(step), {"net": {"w": value}}, ({"mu": value * 2},), {})


def template(state, mesh=None):
    mesh = mesh or make(MeshSpec())
    cut = lambda x: NamedSharding(mesh, PartitionSpec(None, "fsdp") if x.ndim == 2 else PartitionSpec())  # noqa: E731
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=cut(x)), state)


def opened(directory, spec=None, **identity):
    return Checkpoints(directory, spec or CheckpointSpec(keep=3), {**IDENTITY, **identity}, {"name": "toy"})


@pytest.fixture
def saved(tmp_path):
    """A directory with checkpoints of steps 2, 4 and 6."""
    checkpoints = opened(tmp_path)
    for step in (2, 4, 6):
        checkpoints.save(state_at(step), {"meter": {"sums": {"loss": [0.1 + step, 3.0]}}})
    checkpoints.close()
    return tmp_path


def restore(directory, accept=False, shape_of=None, **identity):
    checkpoints = opened(directory, **identity)
    try:
        return checkpoints.restore(template(state_at(0) if shape_of is None else shape_of), accept=accept)
    finally:
        checkpoints.close()


def test_the_newest_comes_back_bit_for_bit(saved):
    found = restore(saved)
    assert_same_bits(found.state, state_at(6))
    assert found.meta["position"]["meter"]["sums"]["loss"] == [6.1, 3.0]
    assert found.meta["config"] == {"name": "toy"}


def test_a_new_directory_has_none(tmp_path):
    assert restore(tmp_path) is None


def test_restoring_cuts_for_another_mesh(saved):
    mesh = make(MeshSpec(fsdp=8))
    checkpoints = opened(saved)
    found = checkpoints.restore(template(state_at(0), mesh)).state
    checkpoints.close()
    assert found.params["net"]["w"].addressable_shards[0].data.shape == (300, 1)
    assert_same_bits(found, state_at(6))


def test_the_state_may_be_used_up_while_it_is_written(tmp_path):
    checkpoints = opened(tmp_path)
    bump = jax.jit(lambda s: jax.tree.map(lambda x: x + 1, s), donate_argnums=0)
    state = jax.tree.map(jnp.array, state_at(1, size=100_000))
    expected = np.asarray(state.params["net"]["w"]).copy()
    checkpoints.save(state, {})
    for _ in range(5):
        state = bump(state)
    found = checkpoints.restore(template(state))
    checkpoints.close()
    np.testing.assert_array_equal(found.state.params["net"]["w"], expected)


@pytest.mark.parametrize("change", [{"seed": 1}, {"global_batch": 16}, {"data": "xyz"}])
def test_other_samples_are_refused_unless_accepted(saved, change):
    ((name, value),) = change.items()
    with pytest.raises(BadInput, match=rf"{name} {IDENTITY[name]!r} -> {value!r}.*--resume\.accept"):
        restore(saved, **change)
    assert_same_bits(restore(saved, accept=True, **change).state, state_at(6))


def test_another_model_is_refused_with_all_differences(saved):
    other = State(jnp.int32(0), {"net": {"w": jnp.zeros((2, 2)), "b": jnp.zeros(1)}}, ({"mu": jnp.zeros((300, 8), jnp.float16)},), {})  # fmt: skip # noqa: E501
    with pytest.raises(BadInput, match="another model or optimiser") as error:
        restore(saved, shape_of=other)
    for text in ("missing: params.net.b (1,)", "wrong shape: params.net.w is (300, 8)", "opt_state.0.mu is float32, must be float16"):  # fmt: skip # noqa: E501
        assert text in str(error.value)


def empty_folder(folder):
    (folder / "7").mkdir()


def lost_state(folder):
    shutil.copytree(folder / "6", folder / "7")
    shutil.rmtree(folder / "7" / "state")


def cut_off(folder):
    shutil.copytree(folder / "6", folder / "7")
    files = [f for f in (folder / "7" / "state").rglob("*") if f.is_file() and f.stat().st_size > 4000]
    assert files
    for file in files:
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def no_json(folder):
    shutil.copytree(folder / "6", folder / "7")
    shutil.rmtree(folder / "7" / "meta")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # what Orbax leaves behind when it fails
@pytest.mark.parametrize("damage", [empty_folder, lost_state, cut_off, no_json])
def test_what_cannot_be_read_is_set_aside(saved, damage):
    """Orbax takes an empty folder `7` for the latest step."""
    damage(saved / "checkpoints")
    checkpoints = opened(saved)
    with pytest.warns(UserWarning, match="checkpoint 7 cannot be read"):
        found = checkpoints.restore(template(state_at(0)))
    assert_same_bits(found.state, state_at(6))
    assert [p.name.split("-")[0] for p in (saved / "broken").iterdir()] == ["7"]
    checkpoints.save(state_at(7), {})  # its place is free again
    checkpoints.close()
    assert_same_bits(restore(saved).state, state_at(7))
    gc.collect()


def test_a_save_that_was_killed_does_not_count(saved):
    shutil.copytree(saved / "checkpoints" / "6", saved / "checkpoints" / "8.orbax-checkpoint-tmp-1")
    assert int(restore(saved).state.step) == 6


def test_nothing_readable_is_an_error_and_nothing_is_lost(saved):
    for step in (2, 4, 6):
        shutil.rmtree(saved / "checkpoints" / str(step) / "state")
    with pytest.raises(BadInput, match=r"none of the checkpoints.*move that folder away"):
        restore(saved)
    assert {p.name for p in (saved / "checkpoints").iterdir()} == {"2", "4", "6"}


@pytest.mark.parametrize(("best_is", "stays"), [("max", 2), ("min", 3)])
def test_the_newest_and_the_best_stay(tmp_path, best_is, stays):
    checkpoints = opened(tmp_path, CheckpointSpec(keep=1, best="val/miou", best_is=best_is))
    for step, miou in enumerate([0.5, 0.9, 0.1, 0.6, 0.7], start=1):
        checkpoints.save(state_at(step), {}, {"val/miou": miou})
    checkpoints.close()
    assert {p.name for p in (tmp_path / "checkpoints").iterdir()} == {str(stays), "5"}


def test_parameters_of_a_run_are_read_without_its_model(saved):
    (saved / "checkpoints" / "9").mkdir()
    with pytest.warns(UserWarning, match="9 cannot be read"):
        found = read_params(saved)
    assert list(found) == ["net.w"]
    np.testing.assert_array_equal(found["net.w"], state_at(6).params["net"]["w"])
    assert (saved / "checkpoints" / "9").exists()
