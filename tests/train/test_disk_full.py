"""A disk that fills up: what is saved stays, what went wrong is said, and nothing half written counts."""

import gc
import subprocess
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sadist_jax.errors import BadInput
from sadist_jax.parallel.mesh import MeshSpec, make
from sadist_jax.parallel.shard import replicated
from sadist_jax.train import folder, manifest
from sadist_jax.train.checkpoint import Checkpoints, CheckpointSpec
from sadist_jax.train.state import State
from tests.train.toy import assert_same_bits

MB = 2**20


@pytest.fixture
def disk(tmp_path):
    """A disk of 11 MB."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=11m", "tmpfs", str(tmp_path)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"a small disk cannot be mounted here: {error}")
    yield tmp_path
    subprocess.run(["umount", "-l", str(tmp_path)], check=True)


def state_at(step):
    """4 MB that do not compress."""
    value = np.random.default_rng(step).integers(0, 2**32, MB, np.uint32)
    return State(jnp.int32(step), {"w": jnp.asarray(value)}, (), {})


@pytest.fixture(scope="module")
def template():
    where = replicated(make(MeshSpec(), jax.devices()[:1]))
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where), state_at(0))


def opened(directory, **options):
    return Checkpoints(directory, CheckpointSpec(**options), {}, None)


def assert_goes_on_from(directory, template, step):
    checkpoints = opened(directory)
    assert_same_bits(checkpoints.restore(template).state, state_at(step))
    checkpoints.close()
    assert all(manifest.problem(folder.step(directory, n)) is None for n in folder.steps(directory))
    assert all(path.name.isdecimal() for path in (directory / "checkpoints").iterdir())  # nothing half written is left


def test_a_save_without_room_is_refused_before_it_begins(disk, template):
    checkpoints = opened(disk, keep=10)
    checkpoints.save(state_at(1), {})
    checkpoints.save(state_at(2), {})
    with pytest.raises(BadInput, match=rf"{disk}/checkpoints has [0-3] MB left, too little for a checkpoint of 4 MB"):
        checkpoints.save(state_at(3), {})
    checkpoints.close()
    assert folder.steps(disk) == [1, 2]
    assert_goes_on_from(disk, template, 2)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # what Orbax leaves behind when it fails
@pytest.mark.parametrize("asked_by", ["save", "settle", "close"])
def test_a_disk_that_fills_while_writing_is_said_once_and_loses_nothing(disk, template, asked_by):
    """Somebody else takes the space between the look at it and the writing."""
    checkpoints = opened(disk, keep=10)
    checkpoints.save(state_at(1), {})
    checkpoints.settle()
    make_room = checkpoints._make_room

    def too_hopeful(*args):
        make_room(*args)
        (disk / "other").write_bytes(bytes(6 * MB))

    checkpoints._make_room = too_hopeful
    checkpoints.save(state_at(2), {})
    until = time.monotonic() + 30
    while not checkpoints._writer._written.done() and time.monotonic() < until:
        time.sleep(0.01)
    ask = {"save": lambda: checkpoints.save(state_at(3), {}), "settle": checkpoints.settle, "close": checkpoints.close}
    with pytest.raises(BadInput, match=rf"{disk}/checkpoints/2 could not be written \(.*No space left.*\); free space"):
        ask[asked_by]()
    checkpoints.close()
    (disk / "other").unlink()
    assert folder.steps(disk) == [1]
    assert_goes_on_from(disk, template, 1)
    gc.collect()


def test_a_disk_too_small_is_refused_before_the_first_step(disk):
    checkpoints = opened(disk)
    small, large = (jax.ShapeDtypeStruct((n * MB,), np.uint8) for n in (4, 12))
    checkpoints.prepare({"w": small}, {})
    with pytest.raises(BadInput, match=r"has 1[0-9] MB left, too little for a checkpoint of 13 MB"):
        checkpoints.prepare({"w": large}, {})
    with pytest.raises(BadInput, match="too little for a checkpoint of 17 MB"):
        checkpoints.prepare({"w": small}, {"held": dict.fromkeys("abc", small)})
    checkpoints.close()


def test_what_is_held_already_needs_no_more_room(disk):
    """As of a run that goes on beside a large frozen teacher."""
    noise = jax.numpy.asarray(np.random.default_rng(0).integers(0, 256, 5 * MB, np.uint8))  # which cannot be compressed
    state, held = {"w": jax.ShapeDtypeStruct((4 * MB,), np.uint8)}, {"held": {"w": noise}}
    checkpoints = opened(disk)
    checkpoints.prepare(state, held)
    checkpoints.prepare(state, held)
    with pytest.raises(BadInput, match="too little"):
        checkpoints.prepare(state, {"other": held["held"]})
    checkpoints.close()


def test_a_place_that_cannot_be_written_is_refused_before_the_first_step(tmp_path):
    (tmp_path / "run").write_text("a file")
    checkpoints = opened(tmp_path / "run")
    with pytest.raises(BadInput, match=rf"{tmp_path}/run cannot be written \(.*\); see to its permissions"):
        checkpoints.prepare({"w": jax.ShapeDtypeStruct((3,), np.uint8)}, {})
    checkpoints.close()
