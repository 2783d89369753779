"""Every public config: says what it must say, builds, names leaves that exist, and its step traces with all shapes."""

import ast
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sadist_jax import tree
from sadist_jax.nn import table as leaves
from sadist_jax.train import optim, state
from sadist_jax.train.config import choices, load, make

CONFIGS = sorted(Path(__file__).parents[2].joinpath("configs").glob("[!_]*.py"))


def names(path):
    """A config with every value that its `config` takes, one changed at a time."""
    known = choices(load(path))
    first = tuple(values[0] for values in known)
    changed = [(*first[:i], value, *first[i + 1 :]) for i, values in enumerate(known) for value in values]
    return [":".join((str(path), *values)) for values in dict.fromkeys([first, *changed])]


RUNS = {name: make(name)[0] for path in CONFIGS for name in names(path)}
STEPS = {repr((run.method, run.data.transform)): name for name, run in RUNS.items()}  # many sets share theirs


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_says_what_it_must(path):
    text = path.read_text(encoding="utf-8")
    doc = ast.get_docstring(ast.parse(text)) or ""
    assert len(text.splitlines()) <= 80
    assert [word for word in ("Paper:", "Command:", "sadist train", "Hardware", "umber") if word not in doc] == []


@pytest.mark.parametrize("name", RUNS, ids=lambda name: name.rpartition("/")[2])
def test_names_leaves_that_exist(name):
    run = RUNS[name]
    layout = state.arrange(run.method, run.freeze)
    every = tree.flatten(layout.all())
    for start in run.starts:
        assert tree.matches(start.target, every)
    optim.build(run.optim, run.steps, leaves.abstract(layout.params))  # raises where a pattern matches nothing


@pytest.mark.parametrize("name", STEPS.values(), ids=lambda name: name.rpartition("/")[2])
def test_step_traces_at_full_size(name):
    run = RUNS[name]
    rows = [run.data.transform.filler()] * 2
    batch = {name: np.stack([np.asarray(row[name]) for row in rows]) for name in rows[0]}
    batch |= {"index": np.arange(2), "weight": np.ones(2, np.float32)}
    trees = [leaves.abstract(run.method.table()[part]) for part in ("params", "frozen", "extra")]
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(np.shape(x), jnp.asarray(x).dtype), batch)

    terms, _ = jax.eval_shape(run.method.loss, *trees, shapes, jax.random.key(0), jnp.int32(0))
    assert {(total.shape, weight.shape) for total, weight, _ in terms.values()} == {((), ())}
