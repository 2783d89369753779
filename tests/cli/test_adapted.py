"""From photos without a label to an adapted model, as it is typed; and `--adapter` of every job that asks a model."""

import json

import numpy as np
import pytest

import sadist_jax
from conversion import __main__ as conversion
from sadist_jax import adapters, cli, tree
from sadist_jax.adapt import lora
from sadist_jax.adapt.lora import Lora
from sadist_jax.weights import safetensors
from tests.adapt import tiny
from tests.data.made import noise, rectangle, save

LOOSE = ["--grid.points-per-side", "2", "--grid.pred-iou-thresh", "-9", "--grid.stability-score-thresh", "0"]
CONFIG = '''"""WeSAM on photos, with prompts of its own."""

from sadist_jax.data.corrupted import Corrupted
from sadist_jax.data.folder import Folder
from sadist_jax.data.weak_frames import WeakFrames
from sadist_jax.methods.adapted import Adapted
from sadist_jax.methods.weak_lora import WeakLora
from sadist_jax.train.optim import Optim
from sadist_jax.train.run import Data, Run
from sadist_jax.train.start import Start
from tests.adapt import tiny


def config():
    return Run(
        "tiny",
        WeakLora(Adapted(tiny.SAM)),
        Data(Corrupted(Folder("photos"), "contrast"), WeakFrames(64, 2, "automatic", "prompts/prompts.json")),
        steps=3,
        global_batch=8,
        out="run",
        optim=Optim(lr=0.1, schedule="constant", warmup=0),
        starts=(Start(r"model\\\\.((?!.*\\\\.lora\\\\.).*)", "sam.safetensors"),),
    )
'''.replace("\\\\", "\\")


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Four photos, the weights of a tiny SAM, and a config that adapts it to them."""
    monkeypatch.chdir(tmp_path)
    for i in range(4):
        save(tmp_path / "photos" / f"{i}.png", noise(40, 48, i))
    sadist_jax.save("sam.safetensors", tiny.SAM, tiny.params(tiny.SAM))
    (tmp_path / "mine.py").write_text(CONFIG)
    return tmp_path


@pytest.fixture
def drawn(here):
    """Two files of adapters of sam.safetensors, of different layers."""
    base, specs = tiny.params(tiny.SAM), {"a": Lora(), "b": Lora((r"image_encoder\.blocks\.1\.mlp\.lin1",), rank=2)}
    for name, spec in specs.items():
        trained = lora.attach(base, tiny.adapters(tiny.SAM, spec, ord(name)))
        adapters.save(f"{name}.safetensors", tiny.SAM, trained, spec)
    return "a.safetensors", "b.safetensors"


def run(*argv):
    assert cli.main([str(x) for x in argv]) == 0


def answer(name, *options):
    """Logits of a box."""
    run("predict", "photos/0.png", "--box", "5,5,30,30", "--logits-out", f"{name}.npy", *options)
    return np.load(f"{name}.npy")


def test_from_photos_to_an_adapted_model(here):
    run("label", "mine.py", "--form", "prompts", "--out", "prompts", "--checkpoint", "sam.safetensors", *LOOSE)
    prompts = json.loads((here / "prompts" / "prompts.json").read_text())
    assert sorted(prompts) == [f"contrast/5/{i}.png" for i in range(4)]  # what the run sees, and its names
    assert all(prompts.values())

    run("train", "mine.py")
    before = answer("before", "--checkpoint", "sam.safetensors")
    beside = answer("beside", "--checkpoint", "sam.safetensors", "--adapter", "run/adapter.safetensors")
    assert conversion.main(["sam.safetensors", "fused.pth", "--adapter", "run/adapter.safetensors"]) == 0
    fused = answer("fused", "--checkpoint", "fused.pth")
    np.testing.assert_allclose(beside, fused, atol=1e-4 * np.abs(fused).max())
    assert np.abs(fused - before).max() > 100 * np.abs(fused - beside).max()


def refused(capsys, *argv):
    assert cli.main([str(x) for x in argv]) == 2
    return capsys.readouterr().err


def test_labelling_a_config_needs_the_weights_of_its_run(here, capsys):
    assert "name the weights that its run starts from" in refused(capsys, "label", "mine.py", "--out", "x")
    among = ("label", "mine.py", "--out", "photos/x", "--form", "maps", "--checkpoint", "sam.safetensors")
    assert "mine.py is a config; name its folder" in refused(capsys, *among)


def test_prompts_that_are_not_there_stop_a_run_before_it_begins(here, capsys):
    def why(prompts):
        (here / "prompts").mkdir(exist_ok=True)
        (here / "prompts" / "prompts.json").write_text(json.dumps(prompts))
        found = refused(capsys, "train", "mine.py")
        assert not (here / "run").exists()
        return found

    names = [f"contrast/5/{i}.png" for i in range(4)]
    assert "no prompts for 2 of 4 images: contrast/5/2.png, contrast/5/3.png" in why({name: [] for name in names[:2]})
    assert "no prompt for any image, so there is nothing to learn" in why({name: [] for name in names})


def test_conversion_fuses_several_adapters_and_none_twice(here, drawn, capsys):
    base = tiny.params(tiny.SAM)
    both = lora.stack(*(adapters.load(file, base)[1] for file in drawn))
    options = [option for file in drawn for option in ("--adapter", file)]
    assert conversion.main(["sam.safetensors", "both.safetensors", *options]) == 0
    found, expected = (
        tree.flatten(x) for x in (sadist_jax.load("both.safetensors")[1], lora.fuse(lora.attach(base, both)))
    )
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-6, atol=1e-7)
    twice = ["sam.safetensors", "twice.pth", "--adapter", drawn[0], "--adapter", drawn[0]]
    assert conversion.main(twice) == 2
    assert "a.safetensors are given twice, and would act doubly" in capsys.readouterr().err


def test_what_a_run_trained_is_no_model_and_no_adapter(here, drawn, capsys):
    base = tiny.params(tiny.SAM)
    flat = {f"model.{name}": x for name, x in tree.flatten(adapters.load(drawn[0], base)[1]).items()}
    safetensors.write("params.safetensors", flat, {})
    for option in ("--checkpoint", "--adapter"):
        found = refused(capsys, "predict", "photos/0.png", "--box", "5,5,30,30", option, "params.safetensors")
        assert "adapter.safetensors" in found.replace("params.safetensors", "")


def test_predict_takes_several_adapters(here, drawn):
    """Beside the kernels it is what it is inside them."""
    base, given = tiny.params(tiny.SAM), [option for file in drawn for option in ("--adapter", file)]
    both = lora.stack(*(adapters.load(file, base)[1] for file in drawn))
    sadist_jax.save("both.safetensors", tiny.SAM, lora.fuse(lora.attach(base, both)))
    expected = answer("fused", "--checkpoint", "both.safetensors")
    found = answer("beside", "--checkpoint", "sam.safetensors", *given)
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())
    for file in drawn:
        alone = answer("alone", "--checkpoint", "sam.safetensors", "--adapter", file)
        assert np.abs(alone - expected).max() > 0.01 * np.abs(expected).max()


def test_everything_mode_takes_adapters(here, drawn):
    base = tiny.params(tiny.SAM)
    whole = lora.fuse(lora.attach(base, adapters.load(drawn[0], base)[1]))
    sadist_jax.save("fused.safetensors", tiny.SAM, whole)
    found = []
    for i, options in enumerate(((), ("--adapter", drawn[0]))):
        checkpoint = "sam.safetensors" if options else "fused.safetensors"
        run("predict", "photos/0.png", "--everything", "--json-out", f"{i}.json", "--checkpoint", checkpoint, *LOOSE, *options)  # fmt: skip # noqa: E501
        content = json.loads((here / f"{i}.json").read_text())
        found.append([record["predicted_iou"] for record in content["annotations"]])
    np.testing.assert_allclose(*found, rtol=1e-4)


def test_labels_of_other_adapters_are_another_job(here, drawn, capsys):
    job = ["label", "photos", "--out", "labels", "--checkpoint", "sam.safetensors", *LOOSE]
    run(*job, "--adapter", drawn[0])
    run(*job, "--adapter", drawn[0])
    assert "0 done, 4 there, 0 bad" in capsys.readouterr().out
    for other in ([], ["--adapter", drawn[1]]):
        assert cli.main([*job, *other]) == 2
        assert "holds the labels of another job" in capsys.readouterr().err


def scores(out, *options):
    """The numbers of `sadist eval prompts` for boxes around two rectangles."""
    for i in range(4):
        for number, corners in enumerate([(4, 4, 20, 20), (20, 10, 44, 36)]):
            save(out.parent / f"set/{i}/masks/{number}.png", rectangle((40, 48), *corners))
        save(out.parent / f"set/{i}/images/{i}.png", noise(40, 48, i))
    data = ["data:mask-folders", "--data.root", str(out.parent / "set")]
    asked = ["--clicks", "1", "--placements", "inside", "--cases", "0"]
    run("eval", "prompts", "--out", out, *asked, *options, *data)
    return json.loads((out / "results.json").read_text())["scores"]


def test_eval_asks_a_checkpoint_with_the_adapters_of_its_name(here, drawn):
    base = tiny.params(tiny.SAM)
    whole = lora.fuse(lora.attach(base, adapters.load(drawn[0], base)[1]))
    sadist_jax.save("fused.safetensors", tiny.SAM, whole)
    plain = ["--checkpoint", "before=sam.safetensors", "--checkpoint", "after=sam.safetensors"]
    found = scores(here / "out", *plain, "--checkpoint", "fused.safetensors", "--adapter", f"after={drawn[0]}")
    assert list(found) == ["before", "after", "fused"]
    before, after, fused = (numbers["inside_1"] for numbers in found.values())
    assert after == pytest.approx(fused, abs=1e-3)
    assert abs(after - before) > 0.01


def test_eval_refuses_the_scores_of_other_adapters(here, drawn, capsys):
    scores(here / "out", "--checkpoint", "x=sam.safetensors", "--adapter", drawn[0])
    data = ["data:mask-folders", "--data.root", "set"]
    argv = ["eval", "prompts", "--out", "out", "--clicks", "1", "--placements", "inside", "--cases", "0"]
    capsys.readouterr()
    said = fails(capsys, *argv, "--checkpoint", "x=sam.safetensors", "--adapter", drawn[1], *data)
    assert "out/records/x holds the scores of another job" in said


def fails(capsys, *argv) -> str:
    assert cli.main([str(x) for x in argv]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


@pytest.mark.parametrize("job", [["predict", "photos/0.png", "--point", "3,3"], ["label", "photos", "--out", "out"]])
def test_adapters_of_another_base_are_refused(here, drawn, capsys, job):
    said = fails(capsys, *job, "--checkpoint", "sam_mini", "--adapter", drawn[0])
    assert "a.safetensors holds adapters of a Sam with weights" in said
    assert "those of sam_mini are" in said
    assert not (here / "out").exists()


def test_bad_options_are_one_sentence(here, drawn, capsys):
    evaluate = ["eval", "prompts", "--out", "out", "--checkpoint", "x=sam.safetensors"]
    data = ["data:mask-folders", "--data.root", "set"]
    said = fails(capsys, *evaluate, "--adapter", "y=a.safetensors", *data)
    assert "--adapter y=a.safetensors is of y, but the checkpoints are called x" in said
    label = ["label", "mine.py", "--out", "out"]
    assert "a config, which has data of its own" in fails(capsys, *label, "--annotations", "boxes.json")
    assert "there is no config other.py" in fails(
        capsys, "label", "other.py", "--out", "out", "--checkpoint", "sam.safetensors"
    )
    boxes = ["--prompt", "boxes", "--annotations", "boxes.json", "--form", "prompts"]
    assert "--form prompts is of --prompt everything" in fails(capsys, "label", "photos", "--out", "out", *boxes)
