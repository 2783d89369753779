"""`sadist features`: what is written, gone on with, refused; and that training on it is training with the teacher."""

import dataclasses
import json
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
import pytest
from array_record.python.array_record_data_source import ArrayRecordDataSource
from PIL import Image

from sadist_jax.cli import main as sadist
from sadist_jax.data.features import MANIFEST, read_manifest, same_picture, signature
from sadist_jax.data.sami_views import FixedCrops
from sadist_jax.data.sample import Unreadable
from sadist_jax.errors import BadInput, Preempted
from sadist_jax.methods.teacher import CachedFeatures, SamFeatures
from sadist_jax.ops.pixels import normalize
from sadist_jax.parallel import mesh, shard
from sadist_jax.parallel.shard import ShardSpec
from sadist_jax.train import features, loop
from sadist_jax.train.log import METRICS
from tests.train.feature_runs import CACHED, CROPS, ENCODER, METHOD, cached_source, make, of_crops, weights

CONFIG = r"""
from tests.train.feature_runs import *
def config():
    data = Data(Folder("nowhere"), CROPS, max_bad_fraction=0.2)
    return Run("frames", METHOD, data, 1, 8, starts=(Start(r"teacher\.(.*)", "missing.pth"),))
"""


@pytest.fixture
def run(tmp_path):
    """Ten photos, one of them damaged, and a teacher."""
    return make(tmp_path)


def lines(run):
    return [json.loads(line) for line in (run.directory / METRICS).read_text().splitlines()]


def test_the_cache_holds_the_features_of_whole_images(run, tmp_path):
    said = []
    manifest = features.write(run, tmp_path / "cache", batch=8, shards=3, say=said.append)
    assert manifest.shape == (8, 8, 8)
    assert len(said) == 3
    assert "1 pictures could not be read" in said[1]  # samples 4 to 7
    reader = cached_source(run, tmp_path / "cache").open()
    sample = reader[7]
    row = CROPS.teacher_input(sample)
    params = weights(tmp_path / "again.safetensors")["image_encoder"]
    expected, _ = ENCODER.apply(params, normalize(row["frame"][None], row["size"][None]))
    np.testing.assert_allclose(sample.features.values.astype(np.float32), expected[0], rtol=2**-8, atol=2e-3)
    with pytest.raises(Unreadable, match=r"4\.png"):
        reader[4]


def test_a_teacher_that_fills_a_device_is_cut_and_sees_the_same(run, tmp_path, monkeypatch):
    """Eight devices, of which one could not hold it."""
    run = dataclasses.replace(run, shard=ShardSpec(min_size=16))
    features.write(run, tmp_path / "repeated")
    made, cut = [], shard.shardings
    monkeypatch.setattr(mesh, "_memory", lambda: 1)
    monkeypatch.setattr(shard, "shardings", lambda *arguments: made.append(cut(*arguments)) or made[-1])
    assert features.write(run, tmp_path / "parts") == read_manifest(tmp_path / "repeated")
    assert sum("fsdp" in leaf.spec for leaf in jax.tree.leaves(made[0])) > 10
    found, expected = (cached_source(run, tmp_path / name).open() for name in ("parts", "repeated"))
    for i in (0, 3, 9):
        values = [reader[i].features.values.astype(np.float32) for reader in (found, expected)]
        np.testing.assert_allclose(*values, rtol=2**-7, atol=2e-3)


@pytest.mark.parametrize("view", ["full1024", "crop224"])
def test_training_on_the_cache_is_training_with_the_teacher(run, tmp_path, view):
    """20 steps; the features are rounded to bfloat16 (relative 2^-9), so losses agree to about that."""
    run, transform = (run, CACHED) if view == "full1024" else (of_crops(run), FixedCrops(32, 4, cached=8))
    features.write(run, tmp_path / "cache", batch=8, say=lambda _: None)
    loop.train(run)
    cached = dataclasses.replace(
        run,
        method=dataclasses.replace(METHOD, teacher=CachedFeatures(8)),
        data=dataclasses.replace(run.data, source=cached_source(run, tmp_path / "cache"), transform=transform),
        out=str(tmp_path / "cached"),
        starts=(),
    )
    loop.train(cached)
    online, offline = ([line["feature_mse"] for line in lines(r)] for r in (run, cached))
    assert len(online) == 20
    np.testing.assert_allclose(offline, online, rtol=2e-3)


def test_what_is_there_is_left_alone_and_shards_are_shared(run, tmp_path):
    said = []
    for process in (0, 1):
        features.write(run, tmp_path / "one", batch=8, shards=3, process=process, processes=2, say=said.append)
    assert [line.partition(":")[0][9:14] for line in said] == ["00000", "00002", "00001"]
    files = sorted((tmp_path / "one").glob("*.array_record"))
    assert [len(ArrayRecordDataSource(str(file))) for file in files] == [4, 4, 2]
    said.clear()
    features.write(run, tmp_path / "one", batch=8, shards=3, say=said.append)
    assert said == []


def test_shards_of_an_earlier_cache_are_not_taken_over(run, tmp_path):
    features.write(run, tmp_path / "cache", batch=8, say=lambda _: None)
    old = cached_source(run, tmp_path / "cache").open().features(0)
    (tmp_path / "cache" / MANIFEST).unlink()
    weights(tmp_path / "teacher.safetensors", seed=1)
    features.write(run, tmp_path / "cache", batch=8, say=lambda _: None)
    assert not np.array_equal(old, cached_source(run, tmp_path / "cache").open().features(0))


def test_fixed_crops_can(run, tmp_path):
    method = dataclasses.replace(METHOD, teacher=SamFeatures(ENCODER))
    fixed = dataclasses.replace(run, method=method, data=dataclasses.replace(run.data, transform=FixedCrops(32, 4)))
    manifest = features.write(fixed, tmp_path / "cache", batch=8, say=lambda _: None)
    assert manifest.shape == (4, 4, 8)
    sample = cached_source(run, tmp_path / "cache").open()[0]
    row = FixedCrops(32, 4, 8)(sample, np.random.default_rng(0))
    params = weights(tmp_path / "again.safetensors")
    target = SamFeatures(ENCODER).features(params, {"image": row["image"][None]}, 4)[0]
    np.testing.assert_allclose(row["target"], target, rtol=2**-8, atol=2e-3)


def test_the_command_writes_and_says_whose_features_they_are(tmp_path, run, capsys):
    config = tmp_path / "frames.py"
    config.write_text(CONFIG)
    command = ["features", str(config), "--out", str(tmp_path / "cache"), "--root", str(tmp_path / "photos"), "--weights", str(tmp_path / "teacher.safetensors")]  # fmt: skip # noqa: E501
    assert sadist(command) == 0
    said = capsys.readouterr().out
    assert "10 samples of 1,080 bytes" in said
    assert read_manifest(tmp_path / "cache").digest in said
    assert sadist([*command, "--process", "2", "--processes", "2"]) == 2
    assert "--process 2 must be 0 or more, and below --processes 2" in capsys.readouterr().err


def test_processes_that_start_together_share_the_work(run, tmp_path):
    """Each finds the folder without a manifest; what both write is what one alone would have written."""
    together = threading.Barrier(2)

    def write(process):
        together.wait()
        features.write(run, tmp_path / "both", batch=8, shards=3, process=process, processes=2, say=lambda _: None)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(write, (0, 1)))
    features.write(run, tmp_path / "one", batch=8, shards=3, say=lambda _: None)
    both, one = (sorted((tmp_path / name).iterdir()) for name in ("both", "one"))
    assert [path.name for path in both] == [path.name for path in one]
    assert read_manifest(tmp_path / "both") == read_manifest(tmp_path / "one")
    both, one = (cached_source(run, tmp_path / name).open() for name in ("both", "one"))
    for i in (0, 3, 9):
        np.testing.assert_array_equal(both.features(i), one.features(i))


def test_a_picture_that_was_replaced_does_not_get_the_old_ones_features(run, tmp_path):
    features.write(run, tmp_path / "cache", batch=8, say=lambda _: None)
    reader = cached_source(run, tmp_path / "cache").open()
    photo = tmp_path / "photos" / "7.png"
    with Image.open(photo) as picture:
        picture.load()
    assert reader[7].features is not None
    picture.point(lambda value: 255 - value).save(photo)
    with pytest.raises(Unreadable, match=r"7\.png is another picture than the one"):
        reader[7]
    picture.point(lambda value: min(255, value + 2)).save(photo)  # another decoder
    assert reader[7].features is not None


@pytest.mark.parametrize("side", [1, 3, 50])
def test_signatures_tell_pictures_apart(side):
    picture = np.random.default_rng(side).integers(0, 256, (side, side + 1, 3), np.uint8)
    assert same_picture(signature(picture), signature(picture))
    assert not same_picture(signature(picture), signature(255 - picture // 2))
    assert not same_picture(signature(picture), signature(picture.swapaxes(0, 1)))


def test_going_on_does_not_need_the_number_of_shards_again(run, tmp_path):
    features.write(run, tmp_path / "cache", batch=8, shards=3, process=0, processes=2, say=lambda _: None)
    said = []
    features.write(run, tmp_path / "cache", batch=8, say=said.append)
    assert [line[:22] for line in said] == ["features-00001-of-0000"]
    with pytest.raises(BadInput, match="shards: the cache has 3, this needs 2"):
        features.write(run, tmp_path / "cache", batch=8, shards=2)
    with pytest.raises(BadInput, match="--shards 9 leaves some without any of the 10 samples"):
        features.write(run, tmp_path / "other", batch=8, shards=9)


def test_asked_to_stop_it_ends_and_goes_on_with_the_next_shard(run, tmp_path):
    whole, said = tmp_path / "whole", []
    features.write(run, whole, batch=8, shards=3, say=said.append)
    with pytest.raises(Preempted, match="SIGTERM"):
        features.write(run, tmp_path / "cache", batch=8, shards=3, say=lambda _: os.kill(os.getpid(), signal.SIGTERM))
    assert len(list((tmp_path / "cache").iterdir())) == 2  # the manifest and one shard
    features.write(run, tmp_path / "cache", batch=8, shards=3, say=said.append)
    assert len(said) == 5
    for path in whole.iterdir():
        assert (tmp_path / "cache" / path.name).read_bytes() == path.read_bytes()
