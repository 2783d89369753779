import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from sadist_jax.data import workers as loaders
from sadist_jax.data.folder import Folder
from sadist_jax.data.mask_folders import MaskFolders
from sadist_jax.data.pipeline import batches, fingerprint
from sadist_jax.data.promptable_frames import PromptableFrames
from sadist_jax.data.quarantine import Quarantine
from sadist_jax.data.sami_crops import SamiCrops
from sadist_jax.data.sample import Unreadable
from sadist_jax.errors import BadInput
from tests.data.made import grey_folder, noise, rectangle, save, truncate
from tests.data.test_workers import left_over

ROOT = Path(__file__).parents[2]
CROPS = SamiCrops(size=4)


def take(stream, count):
    found = list(itertools.islice(stream, count))
    stream.close()
    return found


def same(one, two):
    return len(one) == len(two) and all(
        a.keys() == b.keys() and all(a[k].dtype == b[k].dtype and np.array_equal(a[k], b[k]) for k in a)
        for a, b in zip(one, two, strict=True)
    )


def which(found):
    """Numbers of the grey pictures in a list of batches, in order."""
    return np.concatenate([batch["image"][:, 0, 0, 0] for batch in found]).astype(int) // 10


@pytest.fixture
def grey(tmp_path):
    return Folder(str(grey_folder(tmp_path / "grey", 7))).open()


@pytest.fixture
def noisy(tmp_path):
    """Pictures whose crops differ."""
    for i in range(7):
        save(tmp_path / "noisy" / f"{i}.png", noise(20, 20, i))
    return Folder(str(tmp_path / "noisy")).open()


def test_every_epoch_shows_every_sample_once_in_another_order(grey):
    order = which(take(batches(grey, CROPS, seed=3, global_batch=5), 14))  # 70 positions, 10 epochs
    epochs = order.reshape(10, 7)
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs.tolist())
    assert len({tuple(epoch) for epoch in epochs.tolist()}) > 5
    assert which(take(batches(grey, CROPS, seed=3, global_batch=5, shuffle=False), 3)).tolist() == [
        *range(7),
        *range(7),
        0,
    ]


def test_batches_carry_position_and_weight(grey):
    for step, batch in enumerate(take(batches(grey, CROPS, seed=0, global_batch=3), 4)):
        assert batch["index"].tolist() == [3 * step, 3 * step + 1, 3 * step + 2]
        assert batch["weight"].tolist() == [1, 1, 1]
        assert batch["image"].shape == (3, 4, 4, 3)
        assert {name: value.dtype for name, value in batch.items()} == {
            "image": np.uint8,
            "index": np.int64,
            "weight": np.float32,
        }


def test_the_seed_changes_order_and_crops(noisy):
    assert same(*(take(batches(noisy, CROPS, seed=1, global_batch=4), 4) for _ in range(2)))
    assert not same(*(take(batches(noisy, CROPS, seed=s, global_batch=4), 4) for s in (1, 2)))


def test_a_stream_resumes_in_the_middle_and_over_the_end_of_an_epoch(noisy):
    whole = take(batches(noisy, CROPS, seed=1, global_batch=4), 9)
    for start in (1, 2, 5):
        assert same(whole[start:], take(batches(noisy, CROPS, seed=1, global_batch=4, start_step=start), 9 - start))
    far = take(batches(noisy, CROPS, seed=1, global_batch=4, start_step=10**9), 1)[0]
    assert far["index"].tolist() == [4 * 10**9 + i for i in range(4)]


@pytest.mark.parametrize("hosts", [2, 4])
def test_hosts_share_the_batch_of_one(noisy, hosts):
    whole = take(batches(noisy, CROPS, seed=1, global_batch=8), 3)
    parts = [take(batches(noisy, CROPS, seed=1, global_batch=8, num_hosts=hosts, host=h), 3) for h in range(hosts)]
    joined = [{k: np.concatenate([p[k] for p in step]) for k in step[0]} for step in zip(*parts, strict=True)]
    assert same(whole, joined)


def test_promptable_batches_have_the_shapes_of_the_contract(tmp_path):
    for i in range(3):
        save(tmp_path / "images" / f"{i}.png", noise(30, 20, i))
        save(tmp_path / "masks" / f"{i}.png", rectangle((30, 20), 2, 3, 12, 20).astype(np.uint8))
    reader = MaskFolders(str(tmp_path)).open()
    (batch,) = take(batches(reader, PromptableFrames(size=32, instances=5), seed=0, global_batch=4), 1)
    shapes = {"image": (4, 32, 32, 3), "size": (4, 2), "masks": (4, 5, 32, 32), "instance": (4, 5)}
    assert {k: v.shape for k, v in batch.items()} == {**shapes, "index": (4,), "weight": (4,)}
    assert batch["size"].tolist() == [[32, 21]] * 4
    assert batch["instance"].tolist() == [[True, False, False, False, False]] * 4


def listed(path):
    return {json.loads(line)["sample"] for line in path.read_text().splitlines()}


def test_damaged_samples_are_listed_and_replaced_the_same_way_every_time(noisy, tmp_path):
    good = take(batches(noisy, CROPS, seed=1, global_batch=4), 6)
    for name in ("2.png", "5.png"):
        truncate(tmp_path / "noisy" / name)
    runs = []
    for run in ("a", "b"):
        quarantine = Quarantine(str(tmp_path / f"{run}.jsonl"), 0.3)
        runs.append(take(batches(noisy, CROPS, seed=1, global_batch=4, quarantine=quarantine), 6))
        assert listed(tmp_path / f"{run}.jsonl") == {"2.png", "5.png"}
    again = batches(noisy, CROPS, seed=1, global_batch=4, quarantine=quarantine, start_step=3)  # with the list of run b
    assert same(*runs)
    assert same(runs[0][3:], take(again, 3))
    order = which(
        take(batches(Folder(str(grey_folder(tmp_path / "grey", 7))).open(), CROPS, seed=1, global_batch=4), 6)
    )
    rows = zip(
        order, np.concatenate([b["image"] for b in good]), np.concatenate([b["image"] for b in runs[0]]), strict=True
    )
    assert all(np.array_equal(before, after) == (number not in (2, 5)) for number, before, after in rows)
    assert all(batch["weight"].all() for batch in runs[0])


def test_without_quarantine_the_first_damaged_sample_stops(noisy, tmp_path):
    truncate(tmp_path / "noisy" / "2.png")
    with pytest.raises(Unreadable, match=r"2\.png"):
        take(batches(noisy, CROPS, seed=1, global_batch=7), 1)


def test_too_many_damaged_samples_stop_and_name_the_list(noisy, tmp_path):
    for name in ("2.png", "5.png"):
        truncate(tmp_path / "noisy" / name)
    with pytest.raises(BadInput, match=r"2 of 7 samples cannot be read, more than max_bad_fraction=0.2 .*bad\.jsonl"):
        take(batches(noisy, CROPS, seed=1, global_batch=7, quarantine=Quarantine(str(tmp_path / "bad.jsonl"), 0.2)), 1)


def test_nothing_but_damaged_samples_ends(noisy, tmp_path):
    for i in range(7):
        truncate(tmp_path / "noisy" / f"{i}.png")
    with pytest.raises(BadInput, match="100 samples in a row cannot be read"):
        take(batches(noisy, CROPS, seed=1, global_batch=1, quarantine=Quarantine(str(tmp_path / "bad.jsonl"), 1)), 1)


def test_the_fingerprint_tells_what_the_samples_depend_on(grey, noisy):
    one = fingerprint(grey, seed=1, global_batch=4)
    assert one == json.loads(json.dumps(one))
    assert one == fingerprint(grey, seed=1, global_batch=4)
    others = [
        fingerprint(noisy, seed=1, global_batch=4),
        fingerprint(grey, seed=2, global_batch=4),
        fingerprint(grey, seed=1, global_batch=8),
        fingerprint(grey, seed=1, global_batch=4, shuffle=False),
    ]
    assert one not in others


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"global_batch": 0}, "global_batch is 0"),
        ({"global_batch": 6, "num_hosts": 4}, "global_batch is 6, which 4 hosts cannot share equally"),
        ({"num_hosts": 2, "host": 2}, "host is 2"),
        ({"start_step": -1}, "start_step is -1"),
        ({"seed": -1}, "seed is -1"),
        ({"workers": -1}, "workers is -1"),
    ],
)
def test_impossible_options_are_refused_at_once(grey, options, why):
    with pytest.raises(BadInput, match=why):
        batches(grey, CROPS, **{"seed": 0, "global_batch": 8, **options})


@pytest.mark.processes
def test_worker_processes_give_the_same_batches_beside_a_running_jax(noisy, tmp_path, monkeypatch):
    assert jax.numpy.ones(3).sum() == 3  # JAX and its threads are up: a forked worker could hang
    truncate(tmp_path / "noisy" / "2.png")
    runs = []
    for workers, shared_memory in ((0, "/dev/shm"), (2, "/dev/shm"), (1, "/a machine without it")):
        monkeypatch.setattr(loaders, "_SHARED_MEMORY", shared_memory)
        quarantine = Quarantine(str(tmp_path / f"{workers}.jsonl"), 0.3)
        options = {"seed": 1, "global_batch": 4, "start_step": 2, "quarantine": quarantine}
        runs.append(take(batches(noisy, CROPS, workers=workers, **options), 5))
        assert listed(tmp_path / f"{workers}.jsonl") == {"2.png"}
    assert same(runs[0], runs[1])
    assert same(runs[0], runs[2])
    assert not left_over(os.getpid())


@pytest.mark.processes
def test_an_error_in_a_worker_arrives_as_what_it_is(noisy, tmp_path):
    truncate(tmp_path / "noisy" / "2.png")
    with pytest.raises(Unreadable, match=r"2\.png") as caught:
        take(batches(noisy, CROPS, seed=1, global_batch=7, workers=1), 1)
    assert caught.value.path.endswith("2.png")


def test_the_sources_import_neither_jax_nor_grain():
    code = """
import importlib, pkgutil, sys
sys.modules.update(jax=None, jaxlib=None, grain=None, tensorflow_datasets=None)
import sadist_jax.data
for module in pkgutil.iter_modules(sadist_jax.data.__path__, "sadist_jax.data."):
    importlib.import_module(module.name)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
