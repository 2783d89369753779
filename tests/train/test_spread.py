"""One step of SAMI at toy size on eight devices: what travels between them, and that the mesh does not change it.

Bytes follow from the rule "a weight is gathered where it is used, an activation never". With fsdp among n devices, each
receives (n - 1) / n of every cut leaf at most twice (way forward, way back; a frozen one once), and of all gradients
twice its share (an all-reduce). Without fsdp nothing is gathered. Gradients of micro-batches are added up in parts.
"""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from sadist_jax.methods.sami import Sami
from sadist_jax.parallel import collectives, hosts
from sadist_jax.parallel.mesh import MeshSpec
from sadist_jax.parallel.shard import ShardSpec
from sadist_jax.train import plan
from sadist_jax.train.optim import Optim
from tests.train.toy import QUICKLY, leaves_of

SCALARS = 4096  # bytes: norms, losses, metrics
MESHES = {  # and micro-batches. Two are compiled only: XLA's CPU runtime may start a loop's collectives and others in
    # another order on each device, which then wait for each other (a rendezvous that times out)
    "8 data": (MeshSpec(), 1),
    "2 x 4": (MeshSpec(fsdp=4), 1),
    "2 x 4 twice": (MeshSpec(fsdp=4), 2),
    "8 fsdp": (MeshSpec(fsdp=8), 1),
}
METHOD, BATCH = Sami.tiny()
# with a large eps Adam's first step is nearly the gradient; with a small one its sign, which rounding can turn
OPTIM = Optim(lr=1e-3, eps=1e-2, weight_decay=0.05, clip_norm=1.0)


@functools.cache
def job(name):
    """The run of eight samples a micro-batch; leaves of at least 64 numbers are cut."""
    mesh, accumulate = MESHES[name]
    optim = dataclasses.replace(OPTIM, accumulate=accumulate)
    layout = {"mesh": mesh, "shard_spec": ShardSpec(min_size=64)}
    return plan.make(METHOD, steps=10, global_batch=8 * accumulate, optim=optim, **layout)


def rows(name):
    """The same batch for every micro-batch."""
    return {key: np.concatenate([value] * MESHES[name][1]) for key, value in BATCH.items()}


@functools.cache
def compiled(name):
    one = job(name)
    return one.step.lower(one.template, one.frozen, rows(name)).compile(QUICKLY)


def size(leaves, *, cut):
    """(bytes, number) of the leaves; only of those that are cut."""
    chosen = [leaf for leaf in jax.tree.leaves(leaves) if not cut or any(leaf.sharding.spec)]
    return sum(leaf.size * leaf.dtype.itemsize for leaf in chosen), len(chosen)


@pytest.mark.parametrize("name", MESHES)
def test_weights_and_gradients_travel_and_nothing_else(name):
    one, found = job(name), collectives.find(compiled(name).as_text())
    n, turns = one.mesh.shape["fsdp"], MESHES[name][1]
    (params, leaves), (frozen, still) = (size(x, cut=True) for x in (one.template.params, one.frozen))
    gradients, _ = size(one.template.params, cut=False)
    assert all(step.bounded for step in found)
    assert collectives.received(found, "all-gather") <= turns * (n - 1) / n * (2 * params + frozen)
    assert collectives.times(found, "all-gather") <= turns * (2 * leaves + still)
    assert collectives.received(found, "all-reduce", "reduce-scatter") <= turns * (2 * 7 / 8 * gradients + SCALARS)
    others = {k for k in collectives.KINDS if k not in ("all-gather", "all-reduce", "reduce-scatter")}
    assert collectives.received(found, *others) == 0


@functools.cache
def stepped(name):
    one = job(name)
    state, frozen = one.create({}), one.create_frozen({})
    return jax.device_get(compiled(name)(state, frozen, hosts.global_batch(rows(name), one.rows)))


@pytest.mark.parametrize("name", ["2 x 4", "8 fsdp"])
def test_the_mesh_does_not_change_the_step(name):
    """Within what adding up in another order changes: 1e-6, where parameters are up to 1."""
    (expected, told), (state, metrics) = stepped("8 data"), stepped(name)
    for key, (total, weight) in told.items():  # of micro-batches both are sums
        np.testing.assert_allclose(metrics[key][0] / metrics[key][1], total / weight, rtol=1e-5, err_msg=key)
    a, b = leaves_of(expected), leaves_of(state)
    for key in a:
        np.testing.assert_allclose(b[key], a[key], atol=1e-6, rtol=0, err_msg=key)
