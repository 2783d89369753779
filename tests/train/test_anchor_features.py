"""What `sadist features` keeps of a WeakLora run, the anchor's embeddings of four weak views; and losses on them."""

import dataclasses
import json

import jax
import ml_dtypes
import numpy as np
import pytest
from PIL import Image

from sadist_jax import pretrained
from sadist_jax.adapt.lora import Lora
from sadist_jax.cli import main as sadist
from sadist_jax.data import pipeline
from sadist_jax.data.features import WithFeatures, read_manifest
from sadist_jax.data.folder import Folder
from sadist_jax.data.order import generator
from sadist_jax.data.sample import Features
from sadist_jax.data.weak_frames import WeakFrames, WeakViews
from sadist_jax.errors import BadInput
from sadist_jax.methods.adapted import Adapted
from sadist_jax.methods.tent import Tent
from sadist_jax.methods.weak_lora import WeakLora
from sadist_jax.train import features
from sadist_jax.train.run import Data, Run
from sadist_jax.train.start import Start
from tests.adapt import tiny

SHAPE = (8, 8, 32)  # of an embedding of tiny.SAM


@pytest.fixture
def run(tmp_path):
    """Eight photos of two shapes, two boxes in each; a base in a file."""
    rng = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for i in range(8):
        picture = Image.fromarray(rng.integers(0, 256, (8, 12 - i % 2, 3), np.uint8)).resize((96, 64))
        picture.save(tmp_path / "photos" / f"{i}.png")
    boxes = [{"box": [4, 4, 40, 30]}, {"box": [50, 20, 90, 60]}]
    (tmp_path / "prompts.json").write_text(json.dumps({f"{i}.png": boxes for i in range(8)}))
    pretrained.save(tmp_path / "base.safetensors", tiny.SAM, tiny.params(tiny.SAM))
    return Run(
        name="weak",
        method=WeakLora(Adapted(tiny.SAM)),
        data=Data(Folder(str(tmp_path / "photos")), WeakFrames(64, 2, "automatic", str(tmp_path / "prompts.json"))),
        steps=1,
        global_batch=8,
        starts=(Start(r"model\.((?!.*\.lora\.).*)", str(tmp_path / "base.safetensors")),),
    )


@pytest.fixture
def cached(run, tmp_path):
    """The same run on a cache that has just been written."""
    features.write(run, tmp_path / "cache", batch=8, say=lambda _: None)
    source = WithFeatures(run.data.source, str(tmp_path / "cache"), read_manifest(tmp_path / "cache").digest)
    data = dataclasses.replace(run.data, source=source, transform=with_anchor(run))
    return dataclasses.replace(run, data=data)


def with_anchor(run):
    return dataclasses.replace(run.data.transform, anchor=SHAPE)


def test_a_row_brings_the_embedding_of_the_very_view_that_was_drawn(cached):
    reader, base, seen = cached.data.source.open(), tiny.params(tiny.SAM), set()
    encode = jax.jit(tiny.SAM.encode)
    for i in range(12):
        row = cached.data.transform(reader[i % 2], generator(0, i))
        expected = encode(base, row["image"][None], row["size"][None])[0]
        np.testing.assert_allclose(row["anchor"], expected, rtol=2**-8, atol=2e-3)  # kept in bfloat16
        assert np.abs(row["anchor"] - expected[:, ::-1]).max() > 0.1, "or views could not be told apart"
        seen.add(int(row["view"]))
    assert seen == {0, 1, 2, 3}


def test_the_views_are_those_of_the_rows(run):
    sample = run.data.source.open()[0]
    shown = {name: np.asarray(value) for name, value in WeakViews(64).teacher_input(sample).items()}
    for i in range(8):
        row = run.data.transform(sample, generator(0, i))
        np.testing.assert_array_equal(shown["frame"][row["view"]], row["image"])
        np.testing.assert_array_equal(shown["size"], row["size"])


def test_the_losses_on_the_cache_are_those_with_the_anchor_in_the_step(run, cached):
    """Embeddings are rounded to bfloat16 (relative 2^-9), so losses agree to about that."""
    params = {"model": tiny.adapters(tiny.SAM, Lora())}
    frozen = {"model": tiny.params(tiny.SAM)}
    found = []
    for each in (run, cached):
        batch = next(iter(pipeline.batches(each.data.source.open(), each.data.transform, seed=0, global_batch=2)))
        terms, _ = jax.jit(each.method.loss)(params, frozen, {}, batch, jax.random.key(0), 0)
        found.append({name: float(total / weight) for name, (total, weight, _) in terms.items()})
    assert found[1] == {name: pytest.approx(value, rel=5e-3) for name, value in found[0].items()}
    assert found[1]["contrast"] != found[0]["contrast"], "or the cache has not been looked at"


def test_features_that_are_not_of_four_views_are_refused(run):
    sample, frames = run.data.source.open()[0], with_anchor(run)
    views = np.zeros((4, *SHAPE), ml_dtypes.bfloat16)
    row = frames(sample._replace(features=Features(views, WeakViews(64).view())), generator(0, 0))
    assert row["anchor"].shape == SHAPE
    for found in (None, Features(views[0], WeakViews(64).view()), Features(views, WeakViews(128).view())):
        with pytest.raises(BadInput, match=r"needs cached features \(4, 8, 8, 32\) of the whole image in four flips"):
            frames(sample._replace(features=found), generator(0, 0))
    assert frames.filler()["anchor"].shape == SHAPE


def test_the_command_takes_the_models_weights(run, tmp_path, capsys):
    (tmp_path / "weak.py").write_text(
        "from tests.train.test_anchor_features import *\n"
        "def config():\n"
        "    frames = WeakFrames(64, 2, 'automatic', 'nowhere.json')\n"
        "    return Run('weak', WeakLora(Adapted(tiny.SAM)), Data(Folder('nowhere'), frames), 1, 8)\n"
    )
    files = ["--root", str(tmp_path / "photos"), "--weights", str(tmp_path / "base.safetensors")]
    assert sadist(["features", str(tmp_path / "weak.py"), "--out", str(tmp_path / "by_command"), *files]) == 0
    features.write(run, tmp_path / "cache", batch=8, say=lambda _: None)
    assert read_manifest(tmp_path / "cache").digest in capsys.readouterr().out


def test_only_a_run_with_an_anchor_has_one_to_keep(run, tmp_path):
    with pytest.raises(BadInput, match="what the anchor of WeakLora makes of WeakFrames"):
        features.write(dataclasses.replace(run, method=Tent(Adapted(tiny.SAM))), tmp_path / "cache")


def test_another_base_does_not_go_into_the_same_folder(run, cached, tmp_path):
    other = jax.tree.map(lambda x: x + 1, tiny.params(tiny.SAM))
    pretrained.save(tmp_path / "base.safetensors", tiny.SAM, other)
    with pytest.raises(BadInput, match="weights: the cache has"):
        features.write(run, tmp_path / "cache", batch=8)
