"""A SAMI training step with SAM ViT-B's features computed in the step, and with the same features given.

Two views of the teacher (methods/teacher.py): the student's crop at 224 px, and the whole image at 1024 px, whose
features are cropped. Given features are rounded to bfloat16, as `sadist features` keeps them; reading the disk is not
timed. Both take the same three first steps: their losses must agree.
"""

import dataclasses
from pathlib import Path

import numpy as np

from benchmarks.case import Case, Contender, Op, draw
from benchmarks.sami_step import training

STEPS, FEATURES = 3, "features.npz"


def cases(*, tiny: bool = False) -> list[Case]:
    sizes = {"student": "mini", "teacher": "mini"} if tiny else {"student": "ti", "teacher": "vit_b"}

    def case(view: str, batch: int) -> Case:
        title = f"SAMI step, {sizes['student']} student, teacher {sizes['teacher']} sees {view}, batch {batch}"
        options = {"view": view, "batch": batch, **sizes}
        contenders = Contender("features computed in the step", online), Contender("features given", cached)
        return Case(f"sami_teacher_{view}", title, contenders, prepare, options, tolerance=5e-3)

    return [case("crop224", 8), case("full1024", 2)]


def make_method(view: str, student: str, teacher: str):
    from sadist_jax.methods.sami import Sami
    from sadist_jax.methods.teacher import FrameFeatures, SamFeatures
    from sadist_jax.models.sam import Sam
    from sadist_jax.models.sami_decoder import CrossDecoder
    from sadist_jax.models.vit import Vit

    encoder, vit = getattr(Sam, teacher)().image_encoder, getattr(Vit, student)()
    features = SamFeatures(encoder) if view == "crop224" else FrameFeatures(encoder)
    sizes = {"dim": 64, "depth": 2, "heads": 2} if student == "mini" else {}
    return Sami(vit, CrossDecoder(vit.dim, features.dim, vit.grid, **sizes), features)


def make_rows(method, view: str, batch: int) -> dict[str, np.ndarray]:
    """Crops of noise, and what the teacher sees."""
    from sadist_jax.data.sami_views import FrameCrops
    from sadist_jax.data.sample import unlabelled

    side, vit = method.teacher.encoder.image_size, method.student
    crops = FrameCrops(vit.image_size, vit.grid, side, method.teacher.encoder.patch)
    rng = np.random.default_rng(0)
    noise = [unlabelled(rng.integers(0, 256, (side, side, 3), np.uint8), "noise") for _ in range(batch)]
    rows = [crops(sample, rng) for sample in noise]
    names = ("image",) if view == "crop224" else rows[0]
    return {name: np.stack([row[name] for row in rows]) for name in names}


def prepare(folder: Path, view: str, batch: int, student: str, teacher: str) -> None:
    import jax
    import ml_dtypes

    from sadist_jax.nn import table
    from sadist_jax.weights.pth import read_pth

    method = make_method(view, student, teacher)
    tables = method.table()
    draw(folder, tables["params"] | tables["frozen"])
    frozen = table.from_reference(tables["params"] | tables["frozen"], read_pth(folder / "weights.pth"))["teacher"]
    rows, grid = make_rows(method, view, batch), method.grid
    targets = jax.jit(lambda frozen, rows: method.teacher.targets(frozen, rows, grid))(frozen, rows)
    kept = np.asarray(targets, ml_dtypes.bfloat16).astype(np.float32).reshape(batch, grid, grid, -1)
    np.savez(folder / FEATURES, target=kept)


def online(folder: Path, view: str, batch: int, student: str, teacher: str) -> Op:
    method = make_method(view, student, teacher)
    return _op(folder, method, make_rows(method, view, batch))


def cached(folder: Path, view: str, batch: int, student: str, teacher: str) -> Op:
    from sadist_jax.methods.teacher import CachedFeatures

    method = make_method(view, student, teacher)
    rows = {"image": make_rows(method, view, batch)["image"], "target": np.load(folder / FEATURES)["target"]}
    return _op(folder, dataclasses.replace(method, teacher=CachedFeatures(method.teacher.dim)), rows)


def _op(folder: Path, method, rows: dict[str, np.ndarray]) -> Op:
    from sadist_jax import tree
    from sadist_jax.nn import table
    from sadist_jax.weights.pth import read_pth

    tables = method.table()
    whole, drawn = tables["params"] | tables["frozen"], read_pth(folder / "weights.pth")
    drawn = {name: value for name, value in drawn.items() if name.partition(".")[0] in whole}
    values = tree.flatten(table.from_reference(whole, drawn))

    def outputs() -> dict[str, np.ndarray]:
        step = training(method, values, rows)
        return {f"loss {i}": step()["loss"] for i in range(STEPS)}

    return Op(training(method, values, rows), outputs)
