"""Every method keeps the contract of methods/method.py; one step of it runs on eight devices, in parts too.

At these sizes leaves of 512 numbers are cut and vectors are not, as at full size with the default.
"""

import dataclasses
import importlib
import inspect
import pkgutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sadist_jax.methods
from sadist_jax import tree
from sadist_jax.nn import table as leaves
from sadist_jax.nn.table import Leaf
from sadist_jax.parallel import collectives, hosts
from sadist_jax.parallel.mesh import MeshSpec
from sadist_jax.parallel.shard import ShardSpec
from sadist_jax.train import plan
from sadist_jax.train.optim import Optim
from sadist_jax.train.step import ratio
from tests.train.toy import QUICKLY, Toy, leaves_of


def is_method(thing, module: str) -> bool:
    own = inspect.isclass(thing) and thing.__module__ == module and not getattr(thing, "_is_protocol", False)
    return own and all(callable(getattr(thing, name, None)) for name in ("table", "loss", "after_step"))


def methods() -> list[type]:
    """The classes of sadist_jax.methods that have a table, a loss and an after_step; and the tests' own."""
    names = [m.name for m in pkgutil.walk_packages(sadist_jax.methods.__path__, "sadist_jax.methods.")]
    modules = [importlib.import_module(name) for name in names]
    return [Toy] + [thing for m in modules for thing in vars(m).values() if is_method(thing, m.__name__)]


@pytest.fixture(scope="module", params=methods(), ids=lambda method: method.__name__)
def tiny(request):
    method, batch = request.param.tiny()
    return method, batch


def abstract_arguments(method, batch):
    """What `loss` takes, as shapes: JAX's 32-bit types stand for 64-bit ones."""
    trees = [leaves.abstract(table) for table in method.table().values()]
    rows = {
        name: jax.ShapeDtypeStruct(value.shape, jax.dtypes.canonicalize_dtype(value.dtype))
        for name, value in batch.items()
    }
    return *trees, rows, jax.eval_shape(lambda: jax.random.key(0)), jax.ShapeDtypeStruct((), jnp.int32)


def test_it_is_a_frozen_hashable_dataclass(tiny):
    method, _ = tiny
    assert dataclasses.is_dataclass(method)
    assert hash(method) == hash(method)
    with pytest.raises(dataclasses.FrozenInstanceError):
        method.anything = 1


def test_its_tables_hold_leaves_under_distinct_names(tiny):
    method, _ = tiny
    tables = method.table()
    assert list(tables) == ["params", "frozen", "extra"]
    assert all(isinstance(leaf, Leaf) for leaf in tree.flatten(tree.merge(*tables.values())).values())


def test_its_loss_has_scalar_terms(tiny):
    terms, aux = jax.eval_shape(tiny[0].loss, *abstract_arguments(*tiny))
    assert terms
    for name, (total, weight, _) in [*terms.items(), *((n, (*pair, 1)) for n, pair in aux.get("metrics", {}).items())]:
        assert (total.shape, weight.shape) == ((), ()), name
    assert not set(terms) & set(aux.get("metrics", {})), "a metric may not hide a term"


def test_its_weights_depend_on_the_batch_only(tiny):
    """Then accumulated micro-batches give the gradient of the full batch. Followed through the program, not sampled."""
    method, batch = tiny
    params, *rest = abstract_arguments(method, batch)
    program = jax.make_jaxpr(lambda p, *r: {n: w for n, (_, w, _) in method.loss(p, *r)[0].items()})(params, *rest)
    _, used = jax.interpreters.partial_eval.dce_jaxpr(program.jaxpr, [True] * len(program.jaxpr.outvars))
    assert not any(used[: len(jax.tree.leaves(params))])


# with a large eps Adam's first step is nearly the gradient; with a small one its sign, which rounding can turn
STEP = Optim(lr=1e-3, eps=1e-2, weight_decay=0.1, clip_norm=1.0, ema=0.9)


def plan_of(method, mesh, accumulate=1):
    optim = dataclasses.replace(STEP, accumulate=accumulate)
    layout = {"mesh": mesh, "shard_spec": ShardSpec(min_size=512)}
    return plan.make(method, steps=10, global_batch=8 * accumulate, optim=optim, **layout)


def check_travel(found, job):
    """Weights are gathered where they are used, each no more than once a step as none is computed again; activations
    stay where they are, but for the partners of mixup."""
    cut = [
        leaf
        for leaf in jax.tree.leaves((job.template.params, job.frozen, job.template.extra))
        if any(leaf.sharding.spec)
    ]
    held = sum(leaf.size * leaf.dtype.itemsize for leaf in cut)
    parts = job.mesh.shape["fsdp"]
    assert collectives.received(found, "all-gather") <= 1.01 * held * (parts - 1) / parts
    assert {one.kind for one in found} <= {"all-gather", "all-reduce", "reduce-scatter", "collective-permute"}


def one_step(method, batch, mesh):
    """(state before, after, metrics) of a step on eight devices."""
    job = plan_of(method, mesh)
    state, frozen = job.create({}), job.create_frozen({})
    before = jax.device_get(state)
    rows = hosts.global_batch(batch, job.rows)
    step = job.step.lower(state, frozen, rows).compile(QUICKLY)
    check_travel(collectives.find(step.as_text()), job)
    new, metrics = step(state, frozen, rows)
    kept = jax.tree.map(lambda leaf, told: leaf.sharding.is_equivalent_to(told.sharding, leaf.ndim), new, job.template)
    assert all(jax.tree.leaves(kept))
    return before, *jax.device_get((new, metrics))


@pytest.mark.processes  # alone, and not on every Python: two programs of every method are compiled for eight devices
def test_one_step_runs_on_eight_devices_and_the_mesh_does_not_matter(tiny):
    before, whole, told = one_step(*tiny, MeshSpec())
    _, parts, metrics = one_step(*tiny, MeshSpec(data=2, fsdp=4))
    assert {"loss", "grad_norm", "lr", "skipped"} <= set(told) == set(metrics)
    for name, (total, weight) in told.items():
        assert np.isfinite([total, weight]).all(), name
        np.testing.assert_allclose(ratio(*metrics[name]), ratio(total, weight), rtol=1e-4, atol=1e-6, err_msg=name)
    assert told["skipped"][0] == metrics["skipped"][0] == 0
    assert any((a != b).any() for a, b in zip(*map(jax.tree.leaves, (before.params, whole.params)), strict=True))
    a, b = leaves_of(whole), leaves_of(parts)
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_allclose(b[name], a[name], rtol=1e-3, atol=1e-5, err_msg=name)


def test_one_step_in_micro_batches_lowers_on_eight_devices(tiny):
    """Lowered only, see tests/train/test_spread.py; what it computes is tested in tests/train/test_step.py."""
    method, batch = tiny
    job = plan_of(method, MeshSpec(data=2, fsdp=4), accumulate=2)
    rows = {name: np.concatenate([np.asarray(value)] * 2) for name, value in batch.items()}
    state, metrics = job.step.lower(job.template, job.frozen, rows).out_info
    assert {"loss", "grad_norm", "lr", "skipped"} <= set(metrics)
    shapes = [[(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(some)] for some in (state, job.template)]
    assert shapes[0] == shapes[1]
