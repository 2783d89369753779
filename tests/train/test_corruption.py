"""A checkpoint damaged in 110 ways: it is never restored with other values than it was saved with.

Each way ends in the newest step, the step before, or one sentence; the control shows that without digests it would not.
"""

import collections
import gc
import random
import shutil
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sadist_jax.errors import BadInput
from sadist_jax.parallel.mesh import MeshSpec, make
from sadist_jax.parallel.shard import replicated
from sadist_jax.train import manifest
from sadist_jax.train.checkpoint import Checkpoints, CheckpointSpec
from sadist_jax.train.state import State
from tests.train.toy import leaves_of

IDENTITY = {"data": "abc", "seed": 0, "global_batch": 8}

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # Orbax's, where it fails


def state_at(step):
    """Different bits at every step, and in every leaf."""
    value = np.random.default_rng(step).normal(size=(40, 25)).astype(np.float32)
    return State(
        jnp.int32(step), {"net": {"w": value}}, ({"mu": value * 2, "count": jnp.int32(step)},), {"mean": value - 1}
    )


@pytest.fixture(scope="module")
def template():
    where = replicated(make(MeshSpec(), jax.devices()[:1]))
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where), state_at(0))


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A directory with checkpoints of steps 2 and 4."""
    directory = tmp_path_factory.mktemp("good")
    checkpoints = Checkpoints(directory, CheckpointSpec(), IDENTITY, None)
    for step in (2, 4):
        checkpoints.save(state_at(step), {})
    checkpoints.close()
    return directory


def outcome(directory, template):
    """("step", n) of a restore that gave what was saved at step n, ("sentence", text), or ("silent", n)."""
    checkpoints = Checkpoints(directory, CheckpointSpec(), IDENTITY, None)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            found = checkpoints.restore(template)
    except BadInput as error:
        return "sentence", str(error)
    finally:
        checkpoints.close()
    step = found.meta["step"]
    expected, got = leaves_of(state_at(step)), leaves_of(found.state)
    same = expected.keys() == got.keys() and all(expected[n].tobytes() == got[n].tobytes() for n in expected)
    return "step" if same else "silent", step


def outcomes(good, tmp_path, template, damages):
    """How often each way to end came up, over copies of the good directory with one damage each."""
    ends = []
    for number, damage in enumerate(damages):
        directory = shutil.copytree(good, tmp_path / str(number))
        damage(directory / "checkpoints")
        ends.append(outcome(directory, template))
        shutil.rmtree(directory)
    return collections.Counter(end if end[0] != "sentence" else "sentence" for end in ends)


def files_of(good, step=4):
    folder = good / "checkpoints" / str(step)
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def matters(name):
    """Orbax's own notes, directly in the folder of the step, say when it wrote, and nothing that is restored."""
    return "/" in name or name == manifest.NAME


def flips(good, count=50):
    """Single bits: every other one of a file drawn at random, the rest of a random byte of them all."""
    dice, folder = random.Random(0), good / "checkpoints" / "4"
    names = files_of(good)
    sizes = [(folder / name).stat().st_size for name in names]
    drawn = [dice.choices(names, sizes if n % 2 else [size > 0 for size in sizes])[0] for n in range(count)]
    return [(name, dice.randrange(8 * (folder / name).stat().st_size)) for name in drawn]


def flip(name, bit):
    def damage(folder):
        content = bytearray((folder / "4" / name).read_bytes())
        content[bit // 8] ^= 1 << bit % 8
        (folder / "4" / name).write_bytes(content)

    return damage


def test_fifty_flipped_bits(good, tmp_path, template):
    drawn = flips(good)
    found = outcomes(good, tmp_path, template, [flip(*each) for each in drawn])
    seen = sum(matters(name) for name, _ in drawn)
    assert seen >= 40
    assert found == {("step", 2): seen, ("step", 4): 50 - seen}


def test_without_digests_flipped_bits_are_restored_silently(good, tmp_path, template, monkeypatch):
    """The control: the test above can fail."""
    monkeypatch.setattr(manifest, "problem", lambda *_: None)
    damages = [flip(name, bit) for name, bit in flips(good) if "/d/" in name]
    found = outcomes(good, tmp_path, template, damages)
    assert sum(count for end, count in found.items() if end[0] == "silent") >= len(damages) // 2 >= 5
    gc.collect()


def test_twenty_files_cut_short(good, tmp_path, template):
    dice, damages = random.Random(1), []
    names = [name for name in files_of(good) if matters(name) and (good / "checkpoints/4" / name).stat().st_size]

    def cut(name, length):
        return lambda folder: (folder / "4" / name).write_bytes((folder / "4" / name).read_bytes()[:length])

    for name in dice.choices(names, k=20):
        damages.append(cut(name, dice.randrange((good / "checkpoints/4" / name).stat().st_size)))
    assert outcomes(good, tmp_path, template, damages) == {("step", 2): 20}


def test_twenty_times_missing_files(good, tmp_path, template):
    dice, names = random.Random(2), [name for name in files_of(good) if matters(name)]

    def lose(lost):
        return lambda folder: [(folder / "4" / name).unlink() for name in lost]

    damages = [lose(dice.sample(names, dice.choice([1, 1, 2, 3]))) for _ in range(20)]
    assert outcomes(good, tmp_path, template, damages) == {("step", 2): 20}


def foreign(good):
    """(what lies there, how) of what is no checkpoint of this run; it all leaves step 4 as it is."""

    def empty(name):
        return lambda folder: (folder / name).mkdir()

    def plain_file(name):
        return lambda folder: (folder / name).write_text("not a checkpoint")

    def copy(name, of="4", without=()):
        return lambda folder: shutil.copytree(folder / of, folder / name, ignore=shutil.ignore_patterns(*without))

    def inside(name):
        return lambda folder: (folder / name).write_text("left by a tool")

    yield from map(empty, ["7", "5", "3", "999999", "07", "-1", "latest", "7.orbax-checkpoint-tmp", "٧"])
    yield from map(plain_file, ["7", "latest"])
    yield from (copy("7"), copy("7", of="2"), copy("3"), copy("7.orbax-checkpoint-tmp"), copy("old 4"))
    yield from (copy("7", without=[part]) for part in ("state", "meta", manifest.NAME))
    yield from map(inside, ["4/state/notes.txt"])


def test_twenty_foreign_folders(good, tmp_path, template):
    damages = list(foreign(good))
    assert outcomes(good, tmp_path, template, damages) == {("step", 4): len(damages)}
    assert len(damages) == 20


def test_all_damaged_is_one_sentence_and_nothing_is_moved(good, tmp_path, template):
    directory = shutil.copytree(good, tmp_path / "all")
    for step in (2, 4):
        path = next((directory / "checkpoints" / str(step) / "state").rglob("d/*"))
        path.write_bytes(path.read_bytes()[:-1])
    kind, text = outcome(directory, template)
    assert kind == "sentence"
    assert f"none of the checkpoints in {directory}/checkpoints can be read (step 4: state/" in text
    assert {path.name for path in (directory / "checkpoints").iterdir()} == {"2", "4"}
