"""The floors of CONTRIBUTING.md: imports go down only, and rooms on one floor do not see each other."""

import re
import sys
import tomllib
from pathlib import Path

import pytest

from tests.contracts.imports import PACKAGE, Import, imports, read_package, room_of

ROOT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

FLOORS = [  # lowest first; a room sees the floors below its own, and itself
    ["errors"],
    ["typing"],
    ["tree"],
    ["ops", "codecs"],
    ["losses", "nn"],
    ["models", "adapt", "parallel", "data", "weights"],
    ["recognise"],
    ["methods", "predict", "evals", "pretrained"],
    ["adapters"],
    ["train", "interop"],
    ["cli"],
    ["__main__"],
]
LEVEL = {room: level for level, rooms in enumerate(FLOORS) for room in rooms}

# What a room may import besides the standard library, where that is less than what the package depends on.
ONLY = {
    "errors": set(),
    "typing": {"jax", "jaxtyping"},
    "tree": {"jax", "numpy"},
    "ops": {"jax", "numpy"},
    "losses": {"jax", "numpy"},
    "codecs": {"numpy", "PIL"},
}
NO_JAX = {"errors", "codecs", "data"}  # loader processes and `sadist --help` must not pay for JAX
JAX_FAMILY = {"jax", "jaxlib", "flax", "optax", "orbax"}
JAX_ROOMS = {"typing", "tree"}  # rooms low enough for data and codecs that import JAX
NEVER = {"configs", "launch", "conversion", "tests", "benchmarks", "torch", "tensorflow"}
ONLY_INTEROP = {"keras", "keras_hub", "flax.nnx", "flax.linen"}
DISTRIBUTIONS = {
    "PIL": "pillow",
    "orbax": "orbax-checkpoint",
    "skimage": "scikit-image",
    "tensorflow_datasets": "tensorflow-datasets",
}
DISTRIBUTIONS |= {"keras_hub": "keras-hub", "jaxlib": "jax"}


def requirement_names(requirements: list[str]) -> set[str]:
    return {re.match(r"[A-Za-z0-9_.-]+", requirement)[0].lower() for requirement in requirements}


ALWAYS_THERE = requirement_names(PYPROJECT["dependencies"])
DECLARED = ALWAYS_THERE.union(*(requirement_names(extra) for extra in PYPROJECT["optional-dependencies"].values()))


def problem(found: Import) -> str | None:
    """Why this import is not allowed; None when it is."""
    top = found.target.partition(".")[0]
    if top in sys.stdlib_module_names:
        return None
    if top in NEVER:
        return f"the package never imports {top}"
    if top == PACKAGE:
        return _inside(found, room_of(found.target))
    return _outside(found, top)


def _inside(found: Import, target: str) -> str | None:
    if not found.room:
        return f"`import {PACKAGE}` loads nothing: look names up on first use" if found.at_start else None
    if found.room not in LEVEL or (target and target not in LEVEL):
        return (
            f"{found.room if found.room not in LEVEL else target} has no floor: add it to FLOORS and to CONTRIBUTING.md"
        )
    if found.room in NO_JAX and target in JAX_ROOMS:
        return f"{found.room} runs without JAX, {target} imports it"
    if found.room == target or not target:
        return None
    if LEVEL[target] == LEVEL[found.room]:
        return "rooms on one floor do not see each other"
    return "imports go down only" if LEVEL[target] > LEVEL[found.room] else None


def _outside(found: Import, top: str) -> str | None:
    distribution = DISTRIBUTIONS.get(top, top).lower()
    if found.room in NO_JAX and top in JAX_FAMILY:
        return f"{found.room} runs without JAX"
    if found.room in ONLY and top not in ONLY[found.room]:
        return f"{found.room} needs nothing but {', '.join(sorted(ONLY[found.room])) or 'the standard library'}"
    if found.room != "interop" and any(found.target == n or found.target.startswith(f"{n}.") for n in ONLY_INTEROP):
        return "only interop imports keras and flax.nnx"
    if distribution not in DECLARED:
        return f"pyproject.toml does not name {distribution}"
    if distribution not in ALWAYS_THERE and found.at_start and found.room != "interop":
        return f"{distribution} is an extra: import it inside the function that needs it"
    return None


def problems(sources: dict[str, str]) -> list[str]:
    found = [(each, problem(each)) for each in imports(sources)]
    meshes = [
        f"{module} makes a mesh: parallel/mesh.py is the only place that does"
        for module, source in sources.items()
        if module != f"{PACKAGE}.parallel.mesh" and re.search(r"\b(make_mesh|(?<!Abstract)Mesh)\(", source)
    ]
    return [f"{each}: {why}" for each, why in found if why] + meshes


def test_the_package_keeps_the_floors():
    assert problems(read_package(ROOT / PACKAGE)) == []


@pytest.mark.parametrize(
    ("module", "line", "why"),
    [
        ("ops.boxes", "from sadist_jax.losses import distill", "go down only"),
        ("ops.boxes", "from sadist_jax import losses", "go down only"),
        ("ops.boxes", "from ..losses import distill", "go down only"),
        ("ops.boxes", "def f():\n    import sadist_jax.losses.distill", "go down only"),
        ("ops.boxes", "import sadist_jax.codecs.rle", "on one floor"),
        ("methods.sami", "from sadist_jax.predict import overlay", "on one floor"),
        ("ops.matching", "import optax", "needs nothing but jax, numpy"),
        ("losses.distill", "from optax.losses import safe_softmax_cross_entropy", "needs nothing but jax, numpy"),
        ("codecs.rle", "import grain", "needs nothing but PIL, numpy"),
        ("data.coco", "import jax.numpy as jnp", "without JAX"),
        ("data.coco", "from sadist_jax import tree", "without JAX"),
        ("data.coco", "from sadist_jax.typing import Array", "without JAX"),
        ("models.vit", "import torch.nn as nn", "never imports torch"),
        ("train.run", "from configs import sami_ti", "never imports configs"),
        ("train.run", "from conversion.hf import names", "never imports conversion"),
        ("models.vit", "from flax import nnx", "only interop"),
        ("models.vit", "import flax.nnx", "only interop"),
        ("models.vit", "def f():\n    import keras", "only interop"),
        ("evals.coco", "import skimage", "is an extra"),
        ("data.webdataset", "import webdataset", "does not name webdataset"),
        ("helpers", "import sadist_jax.errors", "has no floor"),
        ("", "from sadist_jax.predict import Predictor", "loads nothing"),
        ("train.step", "mesh = jax.make_mesh((1,), ('data',))", "makes a mesh"),
        ("train.step", "mesh = jax.sharding.Mesh(devices, 'data')", "makes a mesh"),
    ],
)
def test_a_breach_is_found(module, line, why):
    name = f"{PACKAGE}.{module}".rstrip(".")
    sources = {name: line, **dict.fromkeys((f"{PACKAGE}.{room}" for room in LEVEL if room != module), "")}
    (found,) = problems(sources)
    assert why in found
    assert name in found


@pytest.mark.parametrize(
    ("module", "line"),
    [
        (
            "losses.distill",
            "import jax.numpy as jnp\nfrom sadist_jax.ops import resize\nfrom sadist_jax.typing import Array",
        ),
        (
            "data.coco",
            "import grain\nfrom PIL import Image\nfrom sadist_jax.codecs import rle\nimport sadist_jax.errors",
        ),
        ("ops.boxes", "from . import masks\nfrom .masks import area"),
        ("interop.keras", "import keras\nfrom flax import nnx"),
        ("evals.coco", "def f():\n    import skimage"),
        ("parallel.mesh", "mesh = jax.make_mesh((1,), ('data',))"),
        ("parallel.shard", "mesh = jax.sharding.AbstractMesh((1,), ('data',))"),
        ("", "def __getattr__(name):\n    from sadist_jax.predict import Predictor"),
    ],
)
def test_what_is_allowed_passes(module, line):
    name = f"{PACKAGE}.{module}".rstrip(".")
    assert problems({name: line, **dict.fromkeys((f"{PACKAGE}.{room}" for room in LEVEL), "")}) == []
