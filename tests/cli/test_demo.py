import dataclasses
import json

import jax
import numpy as np
import pytest
from PIL import Image

import sadist_jax
from sadist_jax import cli, pretrained, tree
from sadist_jax.cli import demo
from sadist_jax.evals.promptable import Record
from sadist_jax.models.sam import Sam
from sadist_jax.nn import table
from sadist_jax.train import begin, loop, start

FILES = ("student.safetensors", "student.pth", "panel.png", "report.html", "coffee.png")


@pytest.fixture
def teacher(tmp_path, monkeypatch):
    """A sam_mini of random weights in place of the shipped one."""
    rng = np.random.default_rng(0)
    model = Sam.mini()
    params = jax.tree.map(lambda x: rng.normal(0, 0.05, x.shape).astype(np.float32), table.abstract(model.table()))
    sadist_jax.save(tmp_path / "sam_mini.safetensors", model, params)
    monkeypatch.setattr(pretrained, "SHIPPED", tmp_path)
    return params


def fails(capsys, *argv) -> str:
    assert cli.main(["demo", *map(str, argv)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_the_decoder_starts_from_every_leaf_of_sams(tmp_path, monkeypatch):
    """Each leaf of SAM's decoder is a constant of its own, so the values tell where they went."""
    sam = tree.flatten(table.abstract(Sam.mini().table()))
    number = {name: float(i) for i, name in enumerate(sam)}
    params = tree.unflatten({name: np.full(x.shape, number[name], np.float32) for name, x in sam.items()})
    sadist_jax.save(tmp_path / "sam_mini.safetensors", Sam.mini(), params)
    monkeypatch.setattr(pretrained, "SHIPPED", tmp_path)

    run = demo.plan(demo.Options(tmp_path))[demo.WITHOUT]
    student = run.method.table()["params"]
    values = start.overlay(run.starts, student, tree.flatten(student))
    origin = {ours: {v: k for k, v in number.items()}[float(value.flat[0])] for ours, value in values.items()}
    assert len(set(origin.values())) == len(origin)
    scratch = tree.flatten(student).keys() - origin.keys()
    assert all(n.startswith("image_encoder.") and not n.startswith("image_encoder.neck.1") for n in scratch)
    assert "image_encoder.neck.0.weight" in scratch
    unused = {n for n in sam if not n.startswith("image_encoder.")} - set(origin.values())
    no_place = (
        "prompt_encoder.mask_downscaling.",
        "prompt_encoder.no_mask_embed.",
        "prompt_encoder.point_embeddings.0.",
    )
    assert all(n.startswith(no_place) for n in unused)
    decoder = "mask_decoder."
    for ours, theirs in {
        "prompt_encoder.point_embeddings.weight": "prompt_encoder.point_embeddings.1.weight",
        "prompt_encoder.bbox_bottom_right_embeddings.weight": "prompt_encoder.point_embeddings.3.weight",
        f"{decoder}transformer.layers.1.mlp.fc.bias": f"{decoder}transformer.layers.1.mlp.lin2.bias",
        f"{decoder}transformer.layers.1.norm4.weight": f"{decoder}transformer.layers.1.norm4.weight",
        f"{decoder}output_hypernetworks_mlps.3.layers.1.0.bias": f"{decoder}output_hypernetworks_mlps.3.layers.1.bias",
        f"{decoder}final_output_upscaling_layers.1.0.weight": f"{decoder}output_upscaling.3.weight",
        "image_encoder.neck.2.weight": "image_encoder.neck.2.weight",
    }.items():
        assert origin[ours] == theirs


def test_the_two_students_differ_in_nothing_but_the_start_of_the_encoder(teacher, tmp_path):
    stages = demo.plan(demo.Options(tmp_path / "out", 0.5))
    sami, student, without = stages.values()
    assert [run.steps for run in stages.values()] == [
        demo.SAMI_STEPS // 2,
        demo.TUNING_STEPS // 2,
        demo.TUNING_STEPS // 2,
    ]
    assert set(student.starts) - set(without.starts) == {
        start.Start(r"image_encoder\.((?!neck).*)", str(sami.directory), "student.")
    }
    assert dataclasses.replace(without, name=student.name, out=student.out, starts=student.starts) == student


def test_scenes_to_compare_on_have_enough_objects(monkeypatch):
    monkeypatch.setattr(demo, "SCENES", 3)
    scenes = demo.held_out_scenes()
    assert len(scenes) == 3
    assert all(len(scene.masks) >= demo.OBJECTS for scene in scenes)


def test_the_verdict_is_the_mean_difference():
    def records(*ious):
        return [Record(str(i), 0, 0.1, dict.fromkeys(demo.KINDS, (iou, 1))) for i, iou in enumerate(ious)]

    text = demo.verdict({demo.STUDENT: records(0.5, 0.75), demo.WITHOUT: records(0.25, 0.5)})
    assert text.count("+0.250 (+0.250 to +0.250)") == 3


def test_bad_input_is_one_sentence(teacher, tmp_path, capsys):
    assert "--scale is 0.0; it must be a factor above 0" in fails(capsys, "--scale", "0")
    out = tmp_path / "out"
    for name in ("sami", "student"):
        (out / name).mkdir(parents=True)
    (out / "sami" / begin.CONFIG).write_text(json.dumps({"steps": 1}))
    assert "holds a run with another --scale" in fails(capsys, "--out", out)
    assert not (out / "sami" / "metrics.jsonl").exists()


@pytest.mark.processes  # a minute or two
def test_the_whole_road_is_interrupted_and_gone_to_its_end(teacher, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(demo, "SCENES", 2)
    out, train, calls = tmp_path / "out", loop.train, []

    def stop_before_the_second(run):
        if calls:
            raise KeyboardInterrupt
        calls.append(run.name)
        return train(run)

    argv = ["demo", "--out", str(out), "--scale", "0.01"]
    monkeypatch.setattr(loop, "train", stop_before_the_second)
    assert cli.main(argv) == 130
    assert f"`sadist demo --out {out} --scale 0.01` goes on" in capsys.readouterr().out
    monkeypatch.setattr(loop, "train", train)
    assert cli.main(argv) == 0

    text = capsys.readouterr().out
    assert "demo sami goes on after step 2" in text
    for name in (demo.TEACHER, demo.STUDENT, demo.WITHOUT):
        assert any(line.strip().split("  ")[0] == name for line in text.splitlines())
    assert all((out / name).stat().st_size for name in FILES)
    assert np.asarray(Image.open(out / "panel.png")).ndim == 3
    model, params = sadist_jax.load(out / "student.pth")
    _, same = sadist_jax.load(out / "student.safetensors")
    jax.tree.map(np.testing.assert_array_equal, params, same)
    assert model.image_size == 256
    page = (out / "report.html").read_text()
    assert "2 steps of 16 scenes" in page
    assert "mIoU with SAMI minus without" in page

    command = text.split("next: sadist ")[1].splitlines()[0].split()
    assert cli.main(command) == 0
    assert (out / "overlay.png").exists()
