import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import sadist_jax
from benchmarks import wesam_domains, wesam_domains_data, wesam_domains_page, wesam_domains_table
from benchmarks.wesam_domains_data import ClinicDb, domain
from benchmarks.wesam_domains_plan import (
    ABLATIONS,
    DIRECT,
    METHODS,
    PROMPTS,
    RECORDS,
    SAM,
    SUPERVISED,
    TENT,
    WEAK,
    Cell,
    Hyper,
    Plan,
    direct,
    keep,
)
from sadist_jax import tree
from sadist_jax.data.sample import Sample, Unreadable
from sadist_jax.errors import BadInput
from sadist_jax.evals.promptable import Record
from sadist_jax.evals.weakly_prompted import AUTOMATIC
from sadist_jax.predict.predictor import Predictor
from sadist_jax.train import state
from tests.data.made import noise, rectangle

PLAN = Plan(Path("data"), Path("runs"), seeds=2)


# --- data


def test_clinic_db_is_read_without_pillow(tmp_path):
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    image, mask = noise(288, 384), rectangle((288, 384), 10, 20, 30, 50)
    (tmp_path / "images/3.tif").write_bytes(b"II*\0\x08\x10\x05\x00" + image.tobytes() + b"directory")
    Image.fromarray(mask).save(tmp_path / "masks/3.tif")
    reader = ClinicDb(str(tmp_path)).open()
    assert (len(reader), reader.name(0)) == (1, "images/3.tif")
    assert np.array_equal(reader[0].image, image)
    assert np.array_equal(reader[0].masks, mask[None])
    (tmp_path / "images/3.tif").write_bytes(b"II*\0")
    with pytest.raises(Unreadable, match=r"3\.tif cannot be read"):
        reader[0]


def write_pictures(root, names):
    for name in names:
        for kind in ("images", "masks"):
            path = root / f"thermal_udder/{kind}/test/{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rectangle((32, 32), 1, 1, 9, 9)).save(path)


def test_the_later_half_of_each_camera_is_for_the_test(tmp_path):
    """Names begin with a hash; in order of capture, every fifth to train is for validation."""
    days = [f"{97 * i % 256:02x}-0_img_202306{i:02}" for i in range(1, 21)]
    snaps = [f"{i:02x}-Snap-{90 - i}" for i in range(3)]
    write_pictures(tmp_path, days + snaps)

    def names(part):
        reader = domain(tmp_path, "thermal", part).open()
        return {Path(reader.name(i)).stem for i in range(len(reader))}

    assert names("test") == {*days[10:], *snaps[:2]}
    assert names("train") == {*days[:10], snaps[2]}
    assert (len(names("validation")), names("fit") | names("validation")) == (2, names("train"))
    with pytest.raises(BadInput, match="no domain udders"):
        domain(tmp_path, "udders", "test")


def test_frames_of_videos_are_in_the_order_of_their_numbers():
    names = [f"images/{i}.tif" for i in (106, 16, 31, 1, 601)]
    assert [names[i] for i in wesam_domains_data._half("train", names)] == ["images/1.tif", "images/16.tif"]
    assert len(wesam_domains_data._half("test", names)) == 3


def test_photos_that_the_model_was_trained_on_do_not_train_it_again(tmp_path):
    (tmp_path / "coco200").mkdir()
    listed = [["train2017", "a.jpg", 4, "url"], ["val2017", "b.jpg", 4, "url"]]
    (tmp_path / "coco200/permissive_licence_images.json").write_text(json.dumps(listed))
    known = wesam_domains_data.trained_on(tmp_path)
    assert wesam_domains_data._without(known, ["a.jpg", "b.jpg", "c.jpg"]) == [1, 2]


# --- plan


def test_cells_begin_with_direct_and_one_seed_of_everything():
    cells = list(PLAN.cells())
    assert [cell.method for cell in cells[: len(PLAN.domains)]] == [DIRECT] * len(PLAN.domains)
    rest = cells[len(PLAN.domains) :]
    assert len(rest) == 2 * len(PLAN.domains) * (len(PROMPTS) * 3 - 1)  # no true masks of automatic prompts
    assert [cell.seed for cell in rest] == sorted(cell.seed for cell in rest)
    assert not [cell for cell in rest if (cell.prompt, cell.method) == (AUTOMATIC, SUPERVISED)]
    assert len({PLAN.directory(cell) for cell in cells}) == len(cells)


def test_tuned_numbers_go_to_every_domain_and_to_the_ablation(tmp_path, monkeypatch):
    plan = dataclasses.replace(PLAN, runs=tmp_path, methods=(WEAK, TENT))
    assert plan.hyper(WEAK) == plan.hyper("no-dice") == Hyper()
    curves = {(WEAK, 1.0): [0.1, 0.5, 0.4], (WEAK, 2.0): [0.2, 0.3, 0.4], (TENT, 1.0): [0.3, 0.2, 0.1]}
    asked = []

    def fold_scores(plan, prompt, method, rate, lengths):
        asked.append(prompt)
        return curves.get((method, rate), [0.0] * 3)

    monkeypatch.setattr(wesam_domains, "fold_scores", fold_scores)
    monkeypatch.setattr(wesam_domains, "direct_score", lambda plan, prompt: 0.25)
    wesam_domains.tune(plan, (1.0, 2.0), (10, 20, 30))
    assert set(asked) == {"box", "point", "coarse"}
    curves["train-all", 2.0] = [0.1, 0.2, 0.3]
    asked.clear()
    wesam_domains.tune(dataclasses.replace(plan, prompts=("box",), methods=("train-all",)), (1.0, 2.0), (10, 20, 30))
    assert (set(asked), plan.hyper("train-all")) == ({"box"}, Hyper(2.0, 30))
    assert plan.hyper(WEAK) == plan.hyper("no-dice") == Hyper(1.0, 20)
    assert plan.hyper(TENT) == Hyper(1.0, 10)
    assert plan.hyper(SUPERVISED) == Hyper()
    assert dataclasses.replace(plan, steps=7).hyper(TENT) == Hyper(1.0, 7)
    cell = Cell("nuclei", "box", WEAK, 1)
    assert plan.directory(cell) != plan.directory(cell, Hyper(2.0, 20)) != plan.directory(cell, Hyper(2.0, 20), "fit")


def test_runs_differ_in_the_method_alone():
    runs = [PLAN.run(Cell("nuclei", "point", method, 1), Hyper(3e-4, 20)) for method in METHODS]
    assert len({repr(dataclasses.replace(run, name="", out=None, method=None)) for run in runs}) == 1
    one = runs[0]
    assert (one.seed, one.steps, one.optim.lr, one.optim.warmup) == (1, 20, 3e-4, 19)
    assert (one.data.transform.prompt, one.data.transform.size) == ("point", SAM.image_size)
    automatic = PLAN.run(Cell("nuclei", AUTOMATIC, WEAK, 1))
    assert automatic.data.transform.prompts == str(PLAN.prompts_file("nuclei", "train"))


@pytest.mark.parametrize("method", METHODS)
def test_all_of_the_model_starts_from_sam_mini(method):
    run = PLAN.run(Cell("nuclei", "box", method, 0))
    every = tree.flatten(state.arrange(run.method, run.freeze).all())
    covered = {name for start in run.starts for name in tree.matches(start.target, every)}
    assert {name for name in every if name not in covered and not name.startswith(("average.", "begun"))} == {
        name for name in every if name.startswith("model.") and ".lora." in name
    }


def test_the_ablation_leaves_out_one_loss_or_trains_other_weights():
    def losses(method):
        weights = {**METHODS[method].masks.weights, "anchor": METHODS[method].anchor_weight}
        return {name for name, w in (weights | {"contrast": METHODS[method].contrast_weight}).items() if w}

    def trains(method):
        return {name.split(".")[1] for name in tree.flatten(METHODS[method].table()["params"])}

    whole = losses(WEAK)
    for name in ("focal", "dice", "iou", "anchor", "contrast"):
        assert losses(f"no-{name}") == whole - {name}
    assert losses("self-training") == whole - {"anchor", "contrast"}
    assert {method: trains(method) for method in ABLATIONS if method.startswith("train-")} == {
        "train-decoder": {"mask_decoder"},
        "train-norms": {"image_encoder"},
        "train-all": {"image_encoder", "prompt_encoder", "mask_decoder"},
    }


# --- work


def test_work_goes_on_where_it_stopped(tmp_path, monkeypatch):
    plan = dataclasses.replace(PLAN, runs=tmp_path, domains=("nuclei",), prompts=("box",), methods=(WEAK,), seeds=2)
    done = []

    def measure(plan, cell):
        done.append(cell)
        keep(plan.directory(cell) / RECORDS, {"question": wesam_domains.question(plan, cell), "records": []})
        return dict.fromkeys(PROMPTS, 0.5)

    monkeypatch.setattr(wesam_domains, "measure", measure)
    wesam_domains.work(plan, 0)
    assert done == []
    wesam_domains.work(dataclasses.replace(plan, seeds=1), np.inf)
    wesam_domains.work(plan, np.inf)
    assert done == [direct("nuclei"), Cell("nuclei", "box", WEAK, 0), Cell("nuclei", "box", WEAK, 1)]
    assert list(wesam_domains.collect(dataclasses.replace(plan, methods=(TENT,)))) == done
    wesam_domains.work(dataclasses.replace(plan, limit=3), np.inf)  # another question
    assert len(done) == 6


# --- tables


def records(*ious):
    """One object an image, 100 pixels of union, the same for all kinds of prompts but AUTOMATIC, which has half."""
    return tuple(
        Record(f"{i}.png", 0, 0.1, {p: (iou * 100 / (1 + (p == AUTOMATIC)), 100) for p in (*PROMPTS, "coarse_box")})
        for i, iou in enumerate(ious)
    )


PIXELS = {(name, f"{i}.png"): 1000 for name in ("nuclei", "polyps") for i in range(2)}  # so an object has 100


@pytest.fixture
def found(tmp_path):
    """(plan, records) of two domains; WEAK gains 0.1 +- 0.02 in one and loses 0.2 in the other."""
    plan = dataclasses.replace(PLAN, runs=tmp_path)
    all_records = {
        direct("nuclei"): records(0.5, 0.6),
        Cell("nuclei", "box", WEAK, 0): records(0.58, 0.68),
        Cell("nuclei", "box", WEAK, 1): records(0.62, 0.72),
        Cell("nuclei", "box", "no-dice", 0): records(0.5, 0.6),
        Cell("nuclei", "box", TENT, 0): records(0.4, 0.4),
        direct("polyps"): records(0.5, 0.5),
        Cell("polyps", "box", WEAK, 0): records(0.3, 0.3),
    }
    for cell in all_records:
        taught = {"box": 0.7} if cell.method == DIRECT else {"box": 0.6 - 0.1 * cell.seed}
        keep(plan.directory(cell) / RECORDS, {"taught": taught})
    return plan, all_records


def test_gains_are_paired_over_seeds(found):
    result = wesam_domains_table.result(*found, PIXELS)
    nuclei, polyps = result["cells"]
    assert nuclei["scores"][WEAK]["mean"] == pytest.approx(0.65)
    assert nuclei["scores"][WEAK]["sd"] == pytest.approx(np.std([0.63, 0.67], ddof=1))
    assert [nuclei["gain"][end] for end in ("mean", "low", "high")] == [pytest.approx(0.1)] * 3  # each object's own
    assert [polyps["gain"][end] for end in ("mean", "low", "high")] == [pytest.approx(-0.2)] * 3
    assert polyps["taught"] == {"before": 0.7, "after": [0.6]}
    assert result["domains"]["nuclei"] == {"images": 2, "objects": 2}
    across = result["across"]
    assert across["domains"] == ["nuclei", "polyps"]
    assert across["gains"]["box"]["point"] == pytest.approx((0.1 - 0.2) / 2)
    assert across["gains"]["box"][AUTOMATIC] == pytest.approx((0.1 - 0.2) / 4)
    whole, without = result["ablation"]
    assert (whole["method"], without["method"]) == (WEAK, "no-dice")
    assert (without["lr"], without["steps"]) == Hyper()
    assert without["to whole"]["mean"] == pytest.approx(-0.08)  # the seed that both have
    assert (whole["gain"]["seeds"], without["to whole"]["seeds"]) == (2, 1)
    assert without["gain"]["mean"] == pytest.approx(0)


def test_the_command_says_what_was_asked_for():
    less = dataclasses.replace(PLAN, prompts=("box",), methods=(WEAK, "average"), seeds=3)
    begin = "python -m benchmarks.wesam_domains --data DIR --prompts box --methods weak average --seeds 3"
    assert wesam_domains_table.result(less, {}, {})["command"].startswith(begin)


def test_cells_that_lose_are_named_with_what_the_teacher_did(found, monkeypatch):
    monkeypatch.setitem(wesam_domains_table.REASONS, ("polyps", "box"), "Because.")
    text = wesam_domains_table.render(wesam_domains_table.result(*found, PIXELS))
    assert "| nuclei | box | 0.550 | 0.650 ± 0.028 | 0.400 | - | +0.100 (+0.100 to +0.100) | 2 |" in text
    (line,) = [line for line in text.splitlines() if line.startswith("- ")]
    assert line.startswith("- polyps, box: -0.200. On the training images IoU went from 0.700 to 0.600.")
    # 50 of 100 pixels of the union, the object having all of them: the mask is those 50, and then 30
    assert "Masks, 0.50 times as large as their objects, became 0.30." in line
    assert line.endswith("Because.")
    summary = wesam_domains_page.summary(wesam_domains_table.result(*found, PIXELS)["cells"])
    assert summary.startswith("Of 2 pairs of domain and prompt, adaptation helps in 1 and harms in 1;")


def test_the_page_has_the_table_and_a_sheet_of_pictures(found, monkeypatch):
    plan, _ = found
    mask = rectangle((64, 64), 10, 10, 40, 40)[None] > 0
    sample = Sample(noise(64, 64), mask, np.zeros(1, bool), np.array([-1]), "a.png")
    monkeypatch.setattr(wesam_domains_page, "domain", lambda *_: SimpleNamespace(open=lambda: [sample]))
    predictor = Predictor(*sadist_jax.load("sam_mini"))
    models = {direct("nuclei"): predictor, Cell("nuclei", "box", WEAK, 0): predictor}
    page = wesam_domains_page.write(plan, wesam_domains_table.result(*found, PIXELS), models).read_text()
    assert "adaptation helps in 1 and harms in 1" in page
    assert page.count("data:image/png;base64,") == 1


def test_tables_of_nothing_and_of_other_objects(found):
    plan, all_records = found
    assert "No cell loses" in wesam_domains_table.render(wesam_domains_table.result(plan, {}, {}))
    for others in (records(0.5), tuple(record._replace(instance=1) for record in records(0.5, 0.5))):
        with pytest.raises(ValueError, match="not asked for the same objects"):
            wesam_domains_table.result(plan, all_records | {direct("polyps"): others}, PIXELS)


def test_intervals_draw_images_and_not_objects():
    """Both objects of an image gain alike: drawn by themselves, they would seem to be twice as many."""
    gains, names = [0.3, 0.3, -0.1, -0.1, 0.1, 0.1], "aabbcc"
    base = tuple(record._replace(image=name) for record, name in zip(records(*[0.5] * 6), names, strict=True))
    better = tuple(
        record._replace(image=name) for record, name in zip(records(*np.add(0.5, gains)), names, strict=True)
    )
    found = {direct("nuclei"): base, Cell("nuclei", "box", WEAK, 0): better}
    gain = wesam_domains_table.difference(found, Cell("nuclei", "box", WEAK, 0), direct("nuclei"), "box")
    assert (gain["low"], gain["high"]) == (pytest.approx(-0.1), pytest.approx(0.3))  # one draw of 27 is all of one
