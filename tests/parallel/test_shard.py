import jax
import jax.numpy as jnp
import optax
import pytest
from jax.sharding import PartitionSpec as P

from sadist_jax.errors import BadInput
from sadist_jax.parallel import shard
from sadist_jax.parallel.mesh import MeshSpec, make
from sadist_jax.parallel.shard import ShardSpec
from sadist_jax.train import optim as optimisers
from sadist_jax.train.optim import Optim


@pytest.fixture(scope="module")
def mesh():
    return make(MeshSpec(data=2, fsdp=4))


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((8, 16), P(None, "fsdp")),
        ((16, 8), P("fsdp")),
        ((12, 15), P("fsdp")),  # 15 is larger, but 4 does not divide it
        ((16, 16), P("fsdp")),
        ((3, 3, 8, 32), P(None, None, None, "fsdp")),
        ((13, 15), P()),
        ((4, 4), P()),  # smaller than min_size
        ((), P()),
    ],
)
def test_the_largest_axis_that_divides_is_cut(mesh, shape, expected):
    assert shard.partition_spec(ShardSpec(min_size=64), mesh, "a.kernel", shape) == expected


def test_without_an_fsdp_axis_nothing_is_cut():
    assert shard.partition_spec(ShardSpec(min_size=1), make(MeshSpec()), "a", (64, 64)) == P()


def test_the_last_matching_override_wins(mesh):
    spec = ShardSpec(1, ((r"a\..*", ()), (r"a\.kernel", ("fsdp", "tensor"))))
    assert shard.partition_spec(spec, mesh, "a.kernel", (8, 16)) == P("fsdp", "tensor")
    assert shard.partition_spec(spec, mesh, "a.bias", (16,)) == P()
    assert shard.partition_spec(spec, mesh, "b.kernel", (8, 16)) == P(None, "fsdp")


@pytest.mark.parametrize(
    ("overrides", "why"),
    [
        ((("a.kernl", ()),), "matches no parameter.*a.kernel"),
        ((("a.kernel", ("model",)),), "'model'.*along fsdp and tensor"),
        ((("a.kernel", ("data",)),), "'data'.*along fsdp and tensor"),
        ((("a.kernel", ("fsdp", "fsdp")),), "'fsdp' twice"),
    ],
)
def test_overrides_are_checked(overrides, why):
    with pytest.raises(BadInput, match=why):
        shard.check(ShardSpec(overrides=overrides), ["a.kernel", "a.bias"])


def test_an_override_that_does_not_divide_is_refused(mesh):
    with pytest.raises(BadInput, match=r"cannot cut a \(6, 8\)"):
        shard.partition_spec(ShardSpec(overrides=(("a", ("fsdp",)),)), mesh, "a", (6, 8))


def test_moments_are_cut_like_their_parameters(mesh):
    spec = ShardSpec(min_size=1, overrides=((r"a\.kernel", ("fsdp", None)),))
    params = {
        "a": {"kernel": jax.ShapeDtypeStruct((8, 16), jnp.float32), "bias": jax.ShapeDtypeStruct((3,), jnp.float32)}
    }
    opt_state = jax.eval_shape(optax.chain(optax.clip(1.0), optax.adam(1e-3)).init, params)
    cut = shard.shardings(spec, mesh, opt_state)
    adam = cut[1][0]
    assert adam.mu == adam.nu == shard.shardings(spec, mesh, params)
    assert adam.mu["a"]["kernel"].spec == P("fsdp", None)
    assert adam.count.spec == P()


def test_moments_of_parts_of_the_parameters_are_cut_like_them_too(mesh):
    """optax.partition, which Muon needs, has dictionaries of its own on the way."""
    spec = ShardSpec(min_size=1, overrides=((r"a\.(kernel|bias)", ()),))
    params = {
        "a": {"kernel": jax.ShapeDtypeStruct((8, 16), jnp.float32), "bias": jax.ShapeDtypeStruct((8,), jnp.float32)}
    }
    optim = Optim(lr=1e-3, muon=(r"a\.kernel",))
    opt_state = jax.eval_shape(optimisers.build(optim, 10, params).init, params)
    cut = jax.tree.leaves(shard.shardings(spec, mesh, opt_state))
    shapes = [leaf.shape for leaf in jax.tree.leaves(opt_state)]
    assert shapes.count((8, 16)) == 1
    assert shapes.count((8,)) == 2
    assert all(leaf.spec == P() for leaf in cut)


def test_what_a_device_holds():
    """(8, 16) is cut by 2 and by 4; (6, 6) by 2 and 3; (3,) is too small."""
    leaves = {"a": jax.ShapeDtypeStruct((8, 16), jnp.float32), "b": jax.ShapeDtypeStruct((6, 6), jnp.bfloat16)}
    held = shard.held(ShardSpec(min_size=4), leaves | {"c": jax.ShapeDtypeStruct((3,), jnp.float32)})
    assert [held(parts) for parts in (1, 2, 3, 4)] == [512 + 72 + 12, 256 + 36 + 12, 512 + 24 + 12, 128 + 72 + 12]
