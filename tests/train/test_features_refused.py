"""What `sadist features` and runs on a cache refuse: other teachers, views, weights, damaged files."""

import dataclasses

import pytest
from array_record.python.array_record_data_source import ArrayRecordDataSource

from sadist_jax.data.features import MANIFEST, WithFeatures
from sadist_jax.data.sami_crops import SamiCrops
from sadist_jax.errors import BadInput
from sadist_jax.methods.teacher import FrameFeatures
from sadist_jax.train import features
from tests.train.feature_runs import CROPS, ENCODER, METHOD, cached_source, make, of_crops, weights


@pytest.fixture
def run(tmp_path):
    """Ten photos, one of them damaged, and a teacher."""
    return make(tmp_path)


def other_teacher(run):
    return dataclasses.replace(run, method=dataclasses.replace(METHOD, teacher=FrameFeatures(ENCODER, "pre_neck")))


def other_view(run):
    return of_crops(run)


@pytest.mark.parametrize(
    ("change", "message"),
    [(other_teacher, "teacher: the cache has"), (other_view, "view: the cache has")],
)
def test_another_teacher_or_view_does_not_go_into_the_same_folder(run, tmp_path, change, message):
    features.write(run, tmp_path / "cache", batch=8, say=lambda _: None)
    with pytest.raises(BadInput, match=message):
        features.write(change(run), tmp_path / "cache", batch=8)


def test_other_weights_do_not_go_into_the_same_folder(run, tmp_path):
    features.write(run, tmp_path / "cache", batch=8, say=lambda _: None)
    weights(tmp_path / "teacher.safetensors", seed=1)
    with pytest.raises(BadInput, match="weights: the cache has"):
        features.write(run, tmp_path / "cache", batch=8)


def test_random_crops_cannot_be_cached(run, tmp_path):
    crops = dataclasses.replace(run, data=dataclasses.replace(run.data, transform=SamiCrops(32)))
    with pytest.raises(BadInput, match="FrameFeatures as teacher and SamiCrops as crops"):
        features.write(crops, tmp_path / "cache", batch=8)


def test_a_teacher_without_weights_is_refused(run, tmp_path):
    with pytest.raises(BadInput, match="no start of frames gives the teacher's weights"):
        features.write(dataclasses.replace(run, starts=()), tmp_path / "cache")


def test_a_cache_of_something_else_is_refused(run, tmp_path):
    manifest = features.write(run, tmp_path / "cache", batch=8, say=lambda _: None)
    with pytest.raises(BadInput, match=r"have the digest .*, and 0000"):
        WithFeatures(run.data.source, str(tmp_path / "cache"), "0" * 64).open()
    (tmp_path / "photos" / "new.png").write_bytes((tmp_path / "photos" / "0.png").read_bytes())
    with pytest.raises(BadInput, match=r"are of other data \(10 samples, this has 11"):
        cached_source(run, tmp_path / "cache").open()
    (tmp_path / "photos" / "new.png").unlink()
    (tmp_path / "cache" / manifest.file(0)).rename(tmp_path / "away")
    with pytest.raises(BadInput, match="lacks 1 of 1 shards"):
        cached_source(run, tmp_path / "cache").open()
    (tmp_path / "cache" / MANIFEST).write_text("{")
    with pytest.raises(BadInput, match=r"manifest\.json is damaged"):
        cached_source(run, tmp_path / "cache").open()


@pytest.mark.parametrize("kind", ["truncated", "flipped"])
def test_a_damaged_shard_is_named(run, tmp_path, kind):
    folder = tmp_path / "cache"
    manifest = features.write(run, folder, batch=8, say=lambda _: None)
    file = folder / manifest.file(0)
    content = bytearray(file.read_bytes())
    if kind == "truncated":
        content = content[: len(content) // 2]
    else:
        content[content.find(ArrayRecordDataSource(str(file))[2]) + 500] ^= 1
    file.write_bytes(content)
    with pytest.raises(BadInput, match=r"features-00000-of-00001-\w+\.array_record is damaged or truncated"):
        cached_source(run, folder).open().features(2)


def test_too_many_damaged_pictures_end_it_without_their_shard(run, tmp_path):
    strict = dataclasses.replace(run, data=dataclasses.replace(run.data, max_bad_fraction=0.05))
    with pytest.raises(BadInput, match=r"1 pictures cannot be read, more than max_bad_fraction=0.05 of 10.*4\.png"):
        features.write(strict, tmp_path / "cache", batch=8, shards=3, say=lambda _: None)
    assert len(list((tmp_path / "cache").glob("*.array_record"))) == 1  # the one before it


@pytest.mark.parametrize(("field", "value"), [("side", 128), ("patch", 16), ("grid", 8)])
def test_crops_that_do_not_fit_the_teacher_are_refused_before_anything_is_computed(run, tmp_path, field, value):
    data = dataclasses.replace(run.data, transform=dataclasses.replace(CROPS, **{field: value}))
    with pytest.raises(BadInput, match=f"FrameCrops of frames has {field} = {value}, but it must be"):
        features.write(dataclasses.replace(run, data=data), tmp_path / "cache", batch=8)
    assert not (tmp_path / "cache").exists()
