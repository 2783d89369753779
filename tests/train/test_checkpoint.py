import dataclasses
import gc
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from sadist_jax.errors import BadInput
from sadist_jax.parallel.mesh import MeshSpec, make
from sadist_jax.train import folder, manifest
from sadist_jax.train.checkpoint import Checkpoints, CheckpointSpec
from sadist_jax.train.saved_params import read_params
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


def test_other_meshes_get_the_same_bits(tmp_path):
    """8 devices that each hold a part, then 4, then 2, then 2 that hold all of it, then 8 again."""
    meshes = [make(MeshSpec(fsdp=n), jax.devices()[:n]) for n in (8, 4, 2)]
    meshes += [make(MeshSpec(data=2), jax.devices()[:2]), make(MeshSpec(data=2, fsdp=4))]
    state = jax.device_put(state_at(1), jax.tree.map(lambda x: x.sharding, template(state_at(1), meshes[0])))
    for step, (mesh, columns) in enumerate(zip(meshes[1:], (2, 4, 8, 2), strict=True), start=1):
        checkpoints = opened(tmp_path)
        checkpoints.save(dataclasses.replace(state, step=jnp.int32(step)), {})
        state = checkpoints.restore(template(state_at(0), mesh)).state
        checkpoints.close()
        assert state.params["net"]["w"].sharding.mesh == mesh
        assert state.params["net"]["w"].addressable_shards[0].data.shape == (300, columns)
        assert_same_bits(state, dataclasses.replace(state_at(1), step=jnp.int32(step)))


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


def test_another_type_is_refused(saved):
    """Orbax would cast the step to bfloat16, and 257 to 256, without a word."""
    other = dataclasses.replace(state_at(0), step=jnp.bfloat16(0))
    with pytest.raises(BadInput, match="wrong type: step is int32, must be bfloat16"):
        restore(saved, shape_of=other)


def empty_folder(folder):
    (folder / "7").mkdir()


def lost_state(folder):
    shutil.copytree(folder / "6", folder / "7")
    shutil.rmtree(folder / "7" / "state")


def no_manifest(folder):
    """As Orbax alone would leave it, or a run killed before a manifest was written."""
    shutil.copytree(folder / "6", folder / "7")
    (folder / "7" / manifest.NAME).unlink()


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
@pytest.mark.parametrize("damage", [empty_folder, lost_state, no_manifest, cut_off, no_json])
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
    shutil.copytree(saved / "checkpoints" / "6", saved / "checkpoints" / "8.orbax-checkpoint-tmp")
    assert int(restore(saved).state.step) == 6
    assert {p.name for p in (saved / "checkpoints").iterdir()} == {"2", "4", "6"}


def test_a_folder_in_the_place_of_a_step_is_moved_aside(saved):
    checkpoints = opened(saved)
    checkpoints.restore(template(state_at(0)))
    (saved / "checkpoints" / "8").write_text("put there while the run goes on")
    with pytest.warns(UserWarning, match="checkpoint 8 is not of this run; moved to"):
        checkpoints.save(state_at(8), {})
    checkpoints.close()
    assert_same_bits(restore(saved).state, state_at(8))


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


def test_every_nth_stays(tmp_path):
    checkpoints = opened(tmp_path, CheckpointSpec(keep=2, keep_every=3))
    for step in range(1, 9):
        checkpoints.save(state_at(step), {})
    checkpoints.close()
    assert {p.name for p in (tmp_path / "checkpoints").iterdir()} == {"3", "6", "7", "8"}


def test_what_comes_after_the_save_counts(tmp_path):
    """A run that is stopped saves before its evals; the next one evaluates, and saves the same step again."""
    spec = CheckpointSpec(keep=1, best="val/miou")
    checkpoints = opened(tmp_path, spec)
    checkpoints.save(state_at(1), {}, {"val/miou": 0.5})
    checkpoints.save(state_at(2), {"owed": True})
    checkpoints.close()
    checkpoints = opened(tmp_path, spec)
    found = checkpoints.restore(template(state_at(0)))
    assert found.meta["position"] == {"owed": True}
    checkpoints.save(found.state, {}, {"val/miou": 0.9})
    assert checkpoints.restore(template(state_at(0))).meta["position"] == {}
    checkpoints.save(found.state, {})  # the number stays
    for step, miou in ((3, 0.6), (4, 0.7)):
        checkpoints.save(state_at(step), {}, {"val/miou": miou})
    checkpoints.close()
    assert {p.name for p in (tmp_path / "checkpoints").iterdir()} == {"2", "4"}


def test_what_comes_after_the_save_is_ignored_when_damaged(saved):
    checkpoints = opened(saved)
    state = checkpoints.restore(template(state_at(0))).state
    checkpoints.save(state, {"meter": "newer"})
    checkpoints.close()
    assert restore(saved).meta["position"] == {"meter": "newer"}
    path = saved / "checkpoints" / "6" / "later.json"
    path.write_text(path.read_text().replace("newer", "never"))
    assert restore(saved).meta["position"]["meter"]["sums"]["loss"] == [6.1, 3.0]


def test_steps_that_are_forgotten_can_be_saved_anew(saved):
    checkpoints = opened(saved)
    checkpoints.restore(template(state_at(0)))
    assert_same_bits(checkpoints.restore(template(state_at(0)), before=4).state, state_at(2))
    assert folder.steps(saved) == [2]
    other = dataclasses.replace(state_at(5), step=jnp.int32(4))
    checkpoints.save(other, {})
    checkpoints.close()
    assert_same_bits(restore(saved).state, other)


def test_a_run_that_is_refused_deletes_nothing(saved):
    checkpoints = opened(saved, CheckpointSpec(keep=1), seed=1)
    with pytest.raises(BadInput, match="other samples"):
        checkpoints.restore(template(state_at(0)))
    checkpoints.close()
    assert {p.name for p in (saved / "checkpoints").iterdir()} == {"2", "4", "6"}


def test_the_oldest_is_there_until_a_newer_one_has_proved_whole(saved):
    """Looking for what is old comes after restoring: of three only the oldest is whole, and two may stay."""
    for step in ("4", "6"):
        (saved / "checkpoints" / step / manifest.NAME).write_text("{}")
    checkpoints = opened(saved, CheckpointSpec(keep=2))
    with pytest.warns(UserWarning, match="cannot be read"):
        assert_same_bits(checkpoints.restore(template(state_at(0))).state, state_at(2))
    checkpoints.close()


def test_parameters_of_a_run_are_read_without_its_model(saved):
    (saved / "checkpoints" / "9").mkdir()
    with pytest.warns(UserWarning, match="9 cannot be read"):
        found = read_params(saved)
    assert list(found) == ["net.w"]
    np.testing.assert_array_equal(found["net.w"], state_at(6).params["net"]["w"])
    assert (saved / "checkpoints" / "9").exists()


def test_damaged_parameters_are_not_read(saved):
    checkpoints = opened(saved)
    checkpoints.prepare(template(state_at(0)), {"base": {"w": jnp.arange(3000.0)}})
    checkpoints.close()
    assert set(read_params(saved)) == {"net.w", "base.w"}
    flip_in(saved / "checkpoints" / "6" / "state")
    with pytest.warns(UserWarning, match="6 cannot be read .*has changed since it was written"):
        np.testing.assert_array_equal(read_params(saved)["net.w"], state_at(4).params["net"]["w"])
    flip_in(saved / "held")
    with (
        pytest.warns(UserWarning, match="6 cannot"),
        pytest.raises(BadInput, match=r"held is damaged .*run its config again"),
    ):
        read_params(saved)


def test_what_is_held_is_written_once_and_anew_when_damaged_or_other(saved):
    held = {"base": {"w": jnp.arange(3000.0)}}

    def hold(values=held, **identity):
        checkpoints = opened(saved, **identity)
        checkpoints.prepare(template(state_at(0)), values)
        checkpoints.close()
        return (saved / "held" / manifest.NAME).stat().st_ino

    first = hold()
    assert hold() == first
    flip_in(saved / "held")
    second = hold()
    assert second != first
    third = hold({"base": {"w": jnp.arange(3000.0) + 1}}, seed=1)
    assert third != second
    np.testing.assert_array_equal(read_params(saved)["base.w"], np.arange(3000.0) + 1)
    assert len(list((saved / "broken").iterdir())) == 2


def flip_in(folder):
    """Flip one bit of the largest file."""
    path = max((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)
