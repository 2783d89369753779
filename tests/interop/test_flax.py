"""Models of ours as NNX modules, and modules of NNX and Linen as students: values, statistics, randomness, names."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen, nnx

from sadist_jax import tree
from sadist_jax.errors import BadInput
from sadist_jax.interop.flax import LinenModel, NnxModel, NnxTokens, OursInNnx
from sadist_jax.models.tiny_vit import Stage, TinyVit
from sadist_jax.models.vit import Vit
from sadist_jax.nn import table as leaves

VIT = Vit(dim=16, depth=2, heads=2, patch=8, image_size=32)
IMAGE = np.random.default_rng(0).standard_normal((2, 32, 32, 3)).astype(np.float32)


class Net(nnx.Module):
    """A convolution, batch statistics, dropout, a list of layers."""

    def __init__(self, rngs):
        self.conv = nnx.Conv(3, 8, (8, 8), strides=8, rngs=rngs)
        self.norm = nnx.BatchNorm(8, momentum=0.5, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)
        self.blocks = nnx.List([nnx.Linear(8, 8, rngs=rngs) for _ in range(2)])

    def __call__(self, x):
        x = self.drop(self.norm(self.conv(x)))
        for block in self.blocks:
            x = block(x)
        return x


class LinenNet(linen.Module):
    @linen.compact
    def __call__(self, x, train):
        x = linen.Conv(8, (8, 8), strides=8)(x)
        x = linen.BatchNorm(use_running_average=not train, momentum=0.5)(x)
        return linen.Dropout(0.5, deterministic=not train)(x)


def start(model):
    return leaves.init(model.table(), jax.random.key(0))


def test_a_model_of_ours_is_an_nnx_module():
    params = VIT.init(jax.random.key(1))
    module = OursInNnx(VIT, params)
    np.testing.assert_array_equal(module(IMAGE)[0], VIT.apply(params, IMAGE)[0])
    assert len(jax.tree.leaves(nnx.state(module, nnx.Param))) == len(tree.flatten(VIT.table()))
    jax.tree.map(np.testing.assert_array_equal, module.params(), params)


def test_start_values_come_from_the_rngs():
    with pytest.raises(BadInput, match="give params, or rngs"):
        OursInNnx(VIT)
    one, other = (OursInNnx(VIT, rngs=nnx.Rngs(seed)).params()["blocks"]["0"]["attn"] for seed in (0, 1))
    assert not np.array_equal(one["qkv"]["weight"], other["qkv"]["weight"])


def test_statistics_of_ours_are_batch_statistics_there():
    model = TinyVit((Stage(4, 1), Stage(8, 1, 1, 4)), strides=(2,), image_size=32, out_dim=4)
    module = OursInNnx(model, rngs=nnx.Rngs(0))
    stats = {name for name, leaf in tree.flatten(model.table()).items() if leaf.role == "stat"}
    found = {".".join(map(str, path[1:])) for path, _ in nnx.to_flat_state(nnx.state(module, nnx.BatchStat))}
    assert stats
    assert found == stats


def test_nnx_trains_it():
    module = OursInNnx(VIT, rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(module, optax.adam(1e-2), wrt=nnx.Param)

    @nnx.jit
    def step(module, optimizer):
        loss, grads = nnx.value_and_grad(lambda m: jnp.square(m(IMAGE)[0] - 1).mean())(module)
        optimizer.update(module, grads)
        return loss

    losses = [float(step(module, optimizer)) for _ in range(10)]
    assert losses[-1] < 0.5 * losses[0]


def test_an_nnx_module_is_an_encoder():
    module = Net(nnx.Rngs(0))
    model = NnxModel.of(module)
    roles = {name: leaf.role for name, leaf in tree.flatten(model.table()).items()}
    assert roles["norm.mean"] == roles["norm.var"] == "stat"
    assert roles["blocks.1.kernel"] == roles["conv.kernel"] == "weight"
    assert len(roles) == 10  # no key, no count
    assert hash(model) == hash(NnxModel.of(module))

    params = start(model)
    module.eval()
    np.testing.assert_allclose(model.apply(params, IMAGE)[0], module(IMAGE), rtol=1e-5, atol=1e-6)


def test_its_statistics_and_its_randomness_are_threaded_through():
    model = NnxModel.of(Net(nnx.Rngs(0)))
    params = start(model)
    train = jax.jit(model.train)
    one, aux = train(params, IMAGE, jax.random.key(0))
    again, _ = train(params, IMAGE, jax.random.key(0))
    other, _ = train(params, IMAGE, jax.random.key(1))
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)
    conv = model.module(params).conv(IMAGE)
    np.testing.assert_allclose(aux["stats"]["norm"]["mean"], 0.5 * conv.mean((0, 1, 2)), rtol=1e-4, atol=1e-6)
    assert set(tree.flatten(aux["stats"])) == {"norm.mean", "norm.var"}


def test_tokens_refuse_batch_statistics():
    with pytest.raises(BadInput, match=r"Net has batch statistics \(norm.mean\)"):
        NnxTokens.of(Net(nnx.Rngs(0)), dim=8, grid=4, image_size=32)


def test_a_linen_module_is_an_encoder():
    module = LinenNet()
    variables = module.init(jax.random.key(0), IMAGE, train=False)
    model = LinenModel(module, variables, training=(("train", True),), evaluating=(("train", False),))
    params = start(model)
    jax.tree.map(np.testing.assert_array_equal, params, variables)
    np.testing.assert_array_equal(model.apply(params, IMAGE)[0], module.apply(variables, IMAGE, train=False))
    one, aux = model.train(params, IMAGE, jax.random.key(0))
    other, _ = model.train(params, IMAGE, jax.random.key(1))
    assert not np.array_equal(one, other)
    assert set(tree.flatten(aux["stats"])) == {"batch_stats.BatchNorm_0.mean", "batch_stats.BatchNorm_0.var"}
    roles = {name: leaf.role for name, leaf in tree.flatten(model.table()).items()}
    assert {name for name, role in roles.items() if role == "stat"} == set(tree.flatten(aux["stats"]))
