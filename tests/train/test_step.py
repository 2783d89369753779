import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from sadist_jax import tree
from sadist_jax.errors import BadInput
from sadist_jax.parallel import collectives, hosts
from sadist_jax.parallel.mesh import MeshSpec
from sadist_jax.parallel.shard import ShardSpec
from sadist_jax.train import optim, plan
from sadist_jax.train.optim import Optim
from sadist_jax.train.step import ratio
from tests.train.toy import Toy, assert_same_bits, leaves_of

ONE = jax.devices()[:1]
OPTIM = Optim(lr=1e-2, warmup=2, weight_decay=0.1, clip_norm=0.5, ema=0.9)


def make(method=None, *, accumulate=1, mesh=None, devices=None, freeze=(), spec=OPTIM, **layout):
    return plan.make(
        method or Toy(),
        steps=10,
        global_batch=16,
        seed=3,
        optim=dataclasses.replace(spec, accumulate=accumulate),
        mesh=mesh or MeshSpec(),
        shard_spec=ShardSpec(min_size=16, **layout),
        freeze=freeze,
        devices=devices,
    )


def rows(seed=0, count=16):
    """Samples with 0 to 3 real instances each, one row a filler."""
    rng = np.random.default_rng(seed)
    real = np.arange(3) < rng.integers(0, 4, (count, 1))
    weight = (np.arange(count) != 5).astype(np.float32)
    x = rng.normal(size=(count, 3, 4)).astype(np.float32)
    return {"x": x, "real": real.astype(np.float32), "index": np.arange(count) + seed * count, "weight": weight}


def run(job, steps=4, batches=rows):
    """(state, metrics of the last step) after some steps."""
    state, frozen = job.create({}), job.create_frozen({})
    for i in range(steps):
        state, metrics = job.step(state, frozen, hosts.global_batch(batches(i), job.rows))
    return jax.device_get((state, metrics))


@pytest.fixture(scope="module")
def whole():
    return run(make(devices=ONE))


@pytest.mark.parametrize("accumulate", [2, 4])
def test_micro_batches_add_up_to_the_batch(whole, accumulate):
    """Instances lie unevenly, so a mean of the micro-batches' means would differ in the first digit."""
    state, metrics = run(make(devices=ONE, accumulate=accumulate))
    a, b = leaves_of(whole[0]), leaves_of(state)
    for name in a:
        np.testing.assert_allclose(a[name], b[name], rtol=2e-5, atol=1e-6, err_msg=name)
    for name, pair in whole[1].items():
        np.testing.assert_allclose(pair, metrics[name], rtol=1e-5, atol=1e-7, err_msg=name)


def test_the_pass_that_adds_the_weights_costs_nothing():
    """The compiler drops the forward pass that the weights do not need: no more matrix products than without it."""

    def products(accumulate):
        job = make(devices=ONE, accumulate=accumulate)
        return job.step.lower(job.template, job.frozen, rows()).compile().as_text().count(" dot(")

    assert products(2) == products(1) > 0


def test_the_loss_is_the_sum_of_the_terms(whole):
    metrics = whole[1]
    means = {name: total / weight for name, (total, weight) in metrics.items()}
    np.testing.assert_allclose(means["loss"], means["error"] + 0.1 * means["pull"], rtol=1e-6)
    real = rows(3)["real"] * rows(3)["weight"][:, None]
    assert (metrics["error"][1], metrics["pull"][1]) == (real.sum(), 15)


@pytest.mark.parametrize("mesh", [MeshSpec(), MeshSpec(fsdp=4), MeshSpec(fsdp=8)])
def test_meshes_agree(whole, mesh):
    job = make(mesh=mesh)
    state, _ = run(job)
    for name, value in leaves_of(state).items():
        np.testing.assert_allclose(value, leaves_of(whole[0])[name], rtol=1e-5, atol=1e-5, err_msg=name)
    assert_same_bits(state, run(job)[0])


def test_large_leaves_and_their_moments_live_in_parts():
    job = make(mesh=MeshSpec(fsdp=8))
    state = job.create({})
    adam = next(s for s in state.opt_state if hasattr(s, "mu"))
    for part in (state.params, adam.mu, adam.nu, optim.average(state.opt_state)):
        kernel = part["student"]["blocks"]["1"]["kernel"]
        assert kernel.addressable_shards[0].data.shape == (2, 16)
    new, _ = job.step(state, job.create_frozen({}), hosts.global_batch(rows(), job.rows))
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state))
    assert new.params["student"]["blocks"]["1"]["kernel"].addressable_shards[0].data.shape == (2, 16)


def test_a_leaf_cut_along_tensor_is_computed_with_in_parts(whole):
    """The second layer's columns, then the head's rows, as Megatron-LM cuts a pair of layers; the rest along fsdp."""
    cut = ((r"student\.blocks\.1\.kernel", (None, "tensor")), (r"student\.head\.kernel", ("tensor", None)))
    job = make(mesh=MeshSpec(data=2, fsdp=2, tensor=2), overrides=cut)
    for name, value in leaves_of(run(job)[0]).items():
        np.testing.assert_allclose(value, leaves_of(whole[0])[name], rtol=1e-5, atol=1e-5, err_msg=name)
    found = collectives.find(job.step.lower(job.template, job.frozen, rows()).compile().as_text())
    gathered = [shape.sides for one in found if one.kind == "all-gather" for shape in one.results]
    assert (2, 16, 16) not in gathered
    assert job.template.params["student"]["blocks"]["1"]["kernel"].sharding.spec == P(None, "tensor")


@pytest.mark.parametrize("layout", [{"devices": ONE}, {"mesh": MeshSpec(data=2, fsdp=4)}], ids=["one", "2 x 4"])
def test_frozen_leaves_may_lie_rounded(layout):
    job = make(rounded=(r"teacher\..*kernel",), **layout)
    exact, frozen = (tree.flatten(one.create_frozen({})) for one in (make(devices=ONE), job))
    for name, leaf in frozen.items():
        expected = jnp.bfloat16 if name.endswith("kernel") else jnp.float32
        assert leaf.dtype == tree.flatten(job.frozen)[name].dtype == expected, name
        np.testing.assert_array_equal(leaf, exact[name].astype(expected))
        assert leaf.sharding == tree.flatten(job.frozen)[name].sharding, name
    assert run(job, 1)[1]["skipped"] == (0, 1)


def test_what_trains_does_not_lie_rounded():
    with pytest.raises(BadInput, match=r"matches no parameter"):
        make(devices=ONE, rounded=(r"student\..*kernel",))


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_step_that_is_not_finite_changes_only_the_step(accumulate):
    job = make(Toy(poison=20), devices=ONE, accumulate=accumulate)
    good, _ = run(job, 1)
    after, metrics = run(job, 2)  # the second batch holds position 20
    assert int(after.step) == 2
    assert_same_bits(after.replace(step=good.step), good)
    assert metrics["skipped"] == (1, 1)
    assert all(pair == (0, 0) for name, pair in metrics.items() if name != "skipped")
    recovered, metrics = run(job, 3)
    assert metrics["skipped"] == (0, 1)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(recovered))
    np.testing.assert_allclose(metrics["lr"][0], optim.rate(OPTIM, 10)(jnp.int32(2)))


def test_frozen_leaves_are_no_parameters():
    job = make(devices=ONE, freeze=(r"student\.blocks\.0\..*",))
    state, _ = run(job)
    before = jax.device_get(job.create_frozen({}))
    assert set(before["student"]["blocks"]) == {"0"}
    assert not any("blocks']['0" in name for name in leaves_of((state.params, state.opt_state)))
    assert any("blocks']['0" in name for name in leaves_of(state.extra))  # the method still averages all of it
    full, _ = job.layout.rejoin(state.params, before)
    assert tree.flatten(full).keys() == tree.flatten(Toy().table()["params"]).keys()


def test_a_weight_of_zero_gives_zero_and_a_finite_gradient():
    value, grad = jax.value_and_grad(lambda t: ratio(t, jnp.float32(0)))(jnp.float32(0))
    assert (value, grad) == (0, 0)


def test_a_batch_that_does_not_divide_is_refused():
    with pytest.raises(
        BadInput, match=r"global_batch = 16 .* 8 device\(s\) x 4 micro-batches; make it a multiple of 32"
    ):
        make(accumulate=4)


def test_the_key_of_a_step_does_not_depend_on_how_it_was_reached():
    job = make(devices=ONE)
    two, _ = run(job, 2)
    state = jax.device_put(two, jax.tree.map(lambda leaf: leaf.sharding, job.template))
    again, _ = job.step(state, job.create_frozen({}), hosts.global_batch(rows(2), job.rows))
    assert_same_bits(jax.device_get(again), run(job, 3)[0])
