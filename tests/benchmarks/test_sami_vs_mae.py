import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import sami_vs_mae
from benchmarks.sami_vs_mae import MAE, RANDOM, SAMI, STARTS, Plan
from sadist_jax.errors import BadInput
from sadist_jax.evals.promptable import PromptedMasks, Record
from sadist_jax.methods.teacher import Pixels
from sadist_jax.models.sami_decoder import JointDecoder
from sadist_jax.nn import table

PLAN = Plan(Path("bsds"), Path("coco200"), Path("runs"), seeds=2, pretraining=200, tuning=100)


def test_the_three_students_differ_in_the_start_of_their_encoder_only():
    runs = {start: PLAN.tuned(start, 1) for start in STARTS}
    for run in runs.values():
        assert dataclasses.replace(run, name="", out=None, starts=()) == dataclasses.replace(
            runs[RANDOM], name="", out=None, starts=()
        )
    decoder = runs[RANDOM].starts
    for start in (SAMI, MAE):
        *same, encoder = runs[start].starts
        assert tuple(same) == decoder
        assert encoder.source == str(PLAN.pretrained(start, 1).directory)


def test_both_pretrainings_see_the_same_and_mae_reconstructs_pixels_with_a_decoder_of_the_same_sizes():
    sami, mae = PLAN.pretrained(SAMI, 1), PLAN.pretrained(MAE, 1)
    for name in ("data", "steps", "global_batch", "seed", "optim", "freeze"):
        assert getattr(sami, name) == getattr(mae, name)
    assert isinstance(mae.method.teacher, Pixels)
    assert isinstance(mae.method.decoder, JointDecoder)
    assert (mae.method.loss_on, mae.method.mask_ratio, mae.starts) == ("masked", sami.method.mask_ratio, ())
    body = [dataclasses.replace(run.method.decoder, out_dim=1).table() for run in (sami, mae)]
    assert table.count(body[0]) == table.count(body[1])


def test_records_are_kept_for_one_question(tmp_path, monkeypatch):
    """Another limit asks again, and so would another evaluation."""
    asked, run = [], dataclasses.replace(PLAN.tuned(RANDOM, 0), out=str(tmp_path))

    def answers(plan, run, evaluation):
        asked.append(plan.limit)
        return (Record("a.jpg", plan.limit, 0.1, {"box": [1, 2]}),)

    monkeypatch.setattr(sami_vs_mae, "answers", answers)
    three, five = (dataclasses.replace(PLAN, limit=n) for n in (3, 5))
    first = sami_vs_mae.measured(three, run)
    assert sami_vs_mae.measured(three, run) == first
    assert asked == [3]
    assert sami_vs_mae.measured(five, run) == (Record("a.jpg", 5, 0.1, {"box": [1, 2]}),)
    monkeypatch.setattr(sami_vs_mae, "PromptedMasks", lambda: PromptedMasks(seed=1))
    sami_vs_mae.measured(five, run)
    assert asked == [3, 5, 5]


def test_runs_of_another_length_are_refused(tmp_path, monkeypatch):
    plan = dataclasses.replace(PLAN, runs=tmp_path)
    directory = plan.pretrained(SAMI, 0).directory
    directory.mkdir()
    (directory / "config.json").write_text('{"steps": 199}')
    (directory / "params.safetensors").write_bytes(b"")  # finished
    monkeypatch.setattr(sami_vs_mae, "parse", lambda: (plan, tmp_path / "out"))
    with pytest.raises(BadInput, match="another --pretraining or --tuning; use that again or choose another --runs"):
        sami_vs_mae.main()


def test_drift_compares_the_last_two_tenths(tmp_path):
    rows = [{"step": s, "loss": 9.0 if s <= 80 else 4.0 if s <= 90 else 3.0} for s in range(5, 101, 5)]
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in [*rows, {"step": 100, "held/iou": 0.5}]))
    assert sami_vs_mae.drift(path, 100) == pytest.approx(1 - 3 / 4)


def test_differences_are_paired_by_object_over_seeds():
    better = {SAMI: 0.3, MAE: 0.1, RANDOM: 0.0}
    records = {
        (start, seed): tuple(
            Record(f"{i // 2}.jpg", i % 2, 0.1, {"box": (0.1 * (i % 3) + better[start] + 0.02 * seed, 1)})
            for i in range(8)
        )
        for start in STARTS
        for seed in range(2)
    }
    scores = sami_vs_mae.scores(records, 2)
    assert scores[MAE]["box"]["mean"] - scores[RANDOM]["box"]["mean"] == pytest.approx(0.1)
    assert scores[SAMI]["box"]["sd"] == pytest.approx(np.std([0, 0.02], ddof=1))
    rows = {(row["a"], row["b"]): row for row in sami_vs_mae.differences(records, 2)}
    row = rows[SAMI, MAE]
    assert [row["mean"], row["low"], row["high"], *row["each"]] == [pytest.approx(0.2)] * 5
    other = records | {(MAE, 1): records[MAE, 1][1:]}
    with pytest.raises(ValueError, match="same objects"):
        sami_vs_mae.differences(other, 2)
