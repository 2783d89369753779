import dataclasses
import json

import jax
import numpy as np
import pytest

from sadist_jax import tree
from sadist_jax.errors import BadInput
from sadist_jax.train import begin, start
from sadist_jax.train.checkpoint import Checkpoints, CheckpointSpec
from sadist_jax.train.log import LogSpec
from sadist_jax.train.loop import train
from sadist_jax.train.optim import Optim
from sadist_jax.train.run import Evaluation, Resume, as_json
from sadist_jax.train.start import Start
from sadist_jax.weights import safetensors
from tests.train.toy import Points, Toy, assert_same_bits, toy_run

OPTIM = Optim(lr=3e-2, warmup=2, weight_decay=0.1, ema=0.9, layer_decay=0.9, no_decay=(r".*pos_embed",))


def run_in(directory, **changes):
    """12 steps, saved at 4, 8 and 12, a line every 3."""
    options = {"optim": OPTIM, "checkpoint": CheckpointSpec(every=4), "log": LogSpec(every=3, samples=True)}
    return toy_run(directory, **{**options, **changes})


def last_state(run):
    job = begin.plan_of(run)
    checkpoints = Checkpoints(run.directory, run.checkpoint, {}, None)
    try:
        return jax.device_get(checkpoints.restore(job.template, accept=True).state)
    finally:
        checkpoints.close()


def lines(run, name="metrics.jsonl"):
    """The records of a log, without what depends on the clock."""
    records = [json.loads(line) for line in (run.directory / name).read_text().splitlines()]
    return [{k: v for k, v in record.items() if k != "samples_per_second"} for record in records]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    run = run_in(tmp_path_factory.mktemp("unbroken") / "toy")
    train(run)
    return run


def test_it_learns(unbroken):
    records = lines(unbroken)
    assert [record["step"] for record in records] == [3, 6, 9, 12]
    assert records[-1]["loss"] < records[0]["loss"]
    assert [s["index"] for s in lines(unbroken, "samples.jsonl")] == np.arange(96).reshape(12, 8).tolist()


class Stopped(Exception):
    pass


def stop(*_):
    raise Stopped


@pytest.mark.parametrize("at", [2, 4, 7, 11])
def test_an_interrupted_run_ends_with_the_same_bits(unbroken, tmp_path, at):
    """Stopped before the first checkpoint, at one, and between two; what it logged is the same too."""

    run = run_in(tmp_path / "toy")
    with pytest.raises(Stopped):
        train(dataclasses.replace(run, evals=(Evaluation("stop", at, stop),)))
    assert len(lines(run, "samples.jsonl")) == at
    train(run)
    assert_same_bits(last_state(run), last_state(unbroken))
    assert lines(run) == lines(unbroken)
    assert lines(run, "samples.jsonl") == lines(unbroken, "samples.jsonl")
    assert (run.directory / "params.safetensors").read_bytes() == (
        unbroken.directory / "params.safetensors"
    ).read_bytes()


def test_calling_it_again_at_the_end_changes_nothing(unbroken):
    before = (lines(unbroken), (unbroken.directory / "params.safetensors").read_bytes())
    train(unbroken)
    assert (lines(unbroken), (unbroken.directory / "params.safetensors").read_bytes()) == before


def test_other_samples_are_refused(unbroken):
    with pytest.raises(BadInput, match=r"seed 0 -> 1.*--resume\.accept"):
        train(dataclasses.replace(unbroken, seed=1))
    with pytest.raises(BadInput, match="another model or optimiser"):
        train(dataclasses.replace(unbroken, optim=Optim()))


def test_the_files_of_a_finished_run(unbroken):
    directory = unbroken.directory
    state, (saved, metadata) = last_state(unbroken), safetensors.read(directory / "params.safetensors")
    assert metadata == {"format": "sadist_jax", "run": "toy", "step": "12"}
    kernel = tree.flatten(state.params)["student.blocks.0.kernel"]
    np.testing.assert_array_equal(saved["student.blocks.0.kernel"], kernel.T)  # as PyTorch has it: (out, in)
    assert safetensors.read(directory / "average.safetensors")[0].keys() == saved.keys()
    assert json.loads((directory / "config.json").read_text())["optim"]["lr"] == 3e-2
    assert "<svg" in (directory / "report.html").read_text()


def test_a_run_starts_from_another(unbroken, tmp_path):
    """Stage 2: the student of one run is the frozen teacher of the next, and half of its student stays as it was."""
    source = str(unbroken.directory)
    starts = (Start(r"teacher\.(.*)", source, "student."), Start(r"student\.blocks\.0\..*", source))
    run = run_in(tmp_path / "next", starts=starts, freeze=(r"student\.blocks\..*",), steps=4)
    train(run)
    old, new = (safetensors.read(r.directory / "params.safetensors")[0] for r in (unbroken, run))
    assert old.keys() == new.keys()
    np.testing.assert_array_equal(new["student.blocks.0.kernel"], old["student.blocks.0.kernel"])
    assert not np.array_equal(new["student.head.kernel"], old["student.head.kernel"])

    fresh = run_in(tmp_path / "fresh", steps=4)
    train(fresh)
    with pytest.raises(BadInput, match="frozen"):  # the teacher's weights are another run's now
        train(dataclasses.replace(run, starts=(Start(r"teacher\.(.*)", str(fresh.directory), "student."),)))
    train(dataclasses.replace(run, starts=starts[:1], resume=Resume(accept=True)))


def test_an_unfinished_run_gives_its_newest_checkpoint(tmp_path):
    """With the parameters that it froze, which its checkpoints do not repeat."""
    run = run_in(tmp_path / "toy", freeze=(r"student\.head\..*",))
    with pytest.raises(Stopped):
        train(dataclasses.replace(run, evals=(Evaluation("stop", 9, stop),)))
    found = start.read(str(run.directory))
    state, job = last_state(run), begin.plan_of(run)
    assert (int(state.step), found.reference) == (8, False)
    held = tree.flatten(job.create_frozen({})["student"]["head"])
    expected = tree.flatten(state.params) | {f"student.head.{name}": value for name, value in held.items()}
    assert_same_bits({name: found.leaves[name] for name in expected}, expected)


def test_evals_are_logged_and_their_pictures_kept(tmp_path):
    def look(method, params, frozen, extra):
        assert (set(params), set(frozen), set(extra)) == ({"student"}, {"teacher"}, {"mean"})
        picture = np.zeros((4, 6, 3), np.uint8)
        return {"scale": params["student"]["head"]["scale"][0], "picture": picture}

    evals = (Evaluation("now", 4, look), Evaluation("mean", 6, look, average=True))
    run = run_in(tmp_path / "toy", evals=evals, checkpoint=CheckpointSpec(every=4, keep=1, best="now/scale"), steps=8)
    train(run)
    records = [r for r in lines(run) if "now/scale" in r or "mean/scale" in r]
    assert [(r["step"], "now/scale" in r, "mean/scale" in r) for r in records] == [(4, 1, 0), (6, 0, 1), (8, 1, 1)]
    state = last_state(run)
    assert records[-1]["now/scale"] == state.params["student"]["head"]["scale"][0]
    assert records[-1]["mean/scale"] != records[-1]["now/scale"]
    assert {p.name for p in (run.directory / "pictures").iterdir()} == {"now-picture.png", "mean-picture.png"}
    assert "now-picture" in (run.directory / "report.html").read_text()


def test_a_run_that_diverges_stops(tmp_path):
    run = run_in(tmp_path / "toy", method=Toy(noise=float("inf")), max_skipped=3, checkpoint=CheckpointSpec(every=1))
    with pytest.raises(BadInput, match=r"3 steps in a row, 1 to 3, had no finite loss .* second time.*lower optim\.lr"):
        train(run)
    state = last_state(run)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"steps": 0}, "steps is 0"),
        ({"global_batch": 12}, "make it a multiple of 8"),
        ({"freeze": ("studnt.*",)}, "matches no parameter"),
        ({"optim": Optim(accumulate=0)}, r"optim\.accumulate is 0"),
        ({"hang_after": -1.0}, r"hang_after is -1\.0; it must be 0 \(never\) or more"),
        ({"starts": (Start("student.*", "/nowhere.safetensors"),)}, r"/nowhere\.safetensors, .* does not exist"),
    ],
)
def test_bad_input_is_one_sentence(tmp_path, changes, why):
    with pytest.raises(BadInput, match=why):
        train(run_in(tmp_path / "toy", **changes))
    assert not (tmp_path / "toy").exists()  # a run that is refused leaves no trace


def test_a_bucket_is_no_output():
    with pytest.raises(BadInput, match="--out gs://bucket/run is no path; mount the bucket"):
        train(toy_run("gs://bucket/run"))


def test_an_output_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match=r"--out .* cannot be written"):
        train(run_in(tmp_path / "file" / "toy"))


def test_the_config_can_be_json(unbroken):
    assert json.loads(json.dumps(as_json(unbroken)))["data"]["source"] == {"class": "PointSource", "count": 64}


def test_a_frozen_part_comes_whole_from_files(unbroken, tmp_path):
    """A leaf that no start names would be random, and nobody would notice."""
    starts = (Start(r"teacher\.(blocks\..*)", str(unbroken.directory), "student."),)
    with pytest.raises(
        BadInput, match=r"weights that never move come from no start, and would be random: teacher\.head"
    ):
        train(run_in(tmp_path / "next", starts=starts, steps=4))
    assert not (tmp_path / "next").exists()


def test_another_seed_does_not_draw_anew_what_never_moves(tmp_path):
    """Not even where other samples are accepted: what trains has learned on it."""
    run = run_in(tmp_path / "toy", steps=4, freeze=(r"student\.head\..*",))
    train(run)
    with pytest.raises(BadInput, match=r"with seed 0, by which \d+ leaves that never move were drawn .*put that seed"):
        train(dataclasses.replace(run, seed=1, resume=Resume(accept=True)))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"best": "vall/miou"}, "the run has no eval 'vall'; there are val"),
        ({"best": "val/miou", "every": 5}, "of an eval every 4 steps, where none is saved before the last step"),
    ],
)
def test_the_number_that_chooses_a_checkpoint_is_measured_where_one_is_saved(tmp_path, change, why):
    evals = (Evaluation("val", 4, stop),)
    with pytest.raises(BadInput, match=why):
        train(run_in(tmp_path / "toy", steps=12, evals=evals, checkpoint=CheckpointSpec(**change)))


def test_another_transform_is_refused(unbroken):
    with pytest.raises(BadInput, match=r"transform '\w+' -> '\w+'.*--resume\.accept"):
        train(dataclasses.replace(unbroken, data=dataclasses.replace(unbroken.data, transform=Points(k=4))))
