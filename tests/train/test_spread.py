"""One step of SAMI in miniature on eight devices: what travels between them, and that the mesh leaves the result alone.

Bytes follow from the rule "a weight is gathered where it is used, an activation never". With fsdp among n devices, each
receives (n - 1) / n of every cut leaf at most twice (way forward, way back; a frozen one once), and of all gradients
twice that share (an all-reduce). Without fsdp nothing is gathered.
"""

import functools

import jax
import numpy as np
import pytest

from sadist_jax.parallel import collectives, hosts
from sadist_jax.parallel.mesh import MeshSpec
from sadist_jax.parallel.shard import ShardSpec
from sadist_jax.train import config, plan
from sadist_jax.train.optim import Optim
from tests.train.toy import leaves_of

BATCH = 16
SCALARS = 4096  # bytes: norms, losses, metrics
MESHES = {"data 8": MeshSpec(), "4 x 2": MeshSpec(fsdp=2), "fsdp 8": MeshSpec(fsdp=8)}


@functools.cache
def job(name, accumulate=1):
    run, _, _ = config.make_run("sami_mini")
    optim = Optim(lr=1e-3, eps=1e-2, weight_decay=0.05, clip_norm=1.0, accumulate=accumulate)
    return plan.make(
        run.method, steps=10, global_batch=BATCH, optim=optim, mesh=MESHES[name], shard_spec=ShardSpec(min_size=2**12)
    )


def rows():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (BATCH, 128, 128, 3), np.uint8)
    return {"image": image, "index": np.arange(BATCH, dtype=np.int32), "weight": np.ones(BATCH, np.float32)}


@functools.cache
def compiled(name, accumulate=1):
    one = job(name, accumulate)
    return one.step.lower(one.template, one.frozen, rows()).compile()


def size(leaves, *, cut):
    """Bytes of the leaves; only of those that are cut."""
    chosen = [leaf for leaf in jax.tree.leaves(leaves) if not cut or any(leaf.sharding.spec)]
    return sum(leaf.size * leaf.dtype.itemsize for leaf in chosen), len(chosen)


@pytest.mark.parametrize("name", MESHES)
def test_weights_and_gradients_travel_and_nothing_else(name):
    one, found = job(name), collectives.find(compiled(name).as_text())
    n = one.mesh.shape["fsdp"]
    (params, leaves), (frozen, still) = (size(x, cut=True) for x in (one.template.params, one.frozen))
    gradients, _ = size(one.template.params, cut=False)
    assert all(step.bounded for step in found)
    assert collectives.received(found, "all-gather") <= (n - 1) / n * (2 * params + frozen)
    assert collectives.times(found, "all-gather") <= 2 * leaves + still
    assert collectives.received(found, "all-reduce", "reduce-scatter") <= 2 * 7 / 8 * gradients + SCALARS
    others = {k for k in collectives.KINDS if k not in ("all-gather", "all-reduce", "reduce-scatter")}
    assert collectives.received(found, *others) <= SCALARS


@functools.cache
def stepped(name, accumulate=1):
    one = job(name, accumulate)
    state, frozen = one.create({}), one.create_frozen({})
    return jax.device_get(compiled(name, accumulate)(state, frozen, hosts.global_batch(rows(), one.rows)))


@pytest.mark.parametrize("name", [name for name in MESHES if name != "data 8"])
def test_the_mesh_does_not_change_the_step(name):
    (expected, told), (state, metrics) = stepped("data 8"), stepped(name)
    assert all(np.isfinite(pair).all() for pair in metrics.values())
    for key, pair in told.items():
        np.testing.assert_allclose(metrics[key], pair, rtol=1e-5, err_msg=key)
    worst = 0
    for key, value in leaves_of(state).items():
        worst = max(worst, float(np.abs(value - leaves_of(expected)[key]).max()))
    print(name, worst)
