import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from benchmarks import flops
from sadist_jax.methods.sami import Sami
from sadist_jax.methods.teacher import CachedFeatures
from sadist_jax.models.sam import Sam
from sadist_jax.models.vit import Vit
from sadist_jax.nn import table
from sadist_jax.parallel.mesh import MeshSpec, make
from sadist_jax.train import work
from sadist_jax.train.work import Work


def of(shape, dtype=np.float32):
    return jax.ShapeDtypeStruct(shape, dtype)


def counted(function, *arguments) -> Work:
    return work.count(jax.jit(function).trace(*arguments).jaxpr)


def test_a_product_is_two_operations_for_each_triple():
    assert counted(jnp.matmul, of((3, 4)), of((4, 5))) == Work(wide=2 * 3 * 4 * 5, nbytes=4 * (12 + 20 + 15))
    narrow = counted(jnp.matmul, of((3, 4), jnp.bfloat16), of((4, 5), jnp.bfloat16))
    assert narrow == Work(narrow=2 * 3 * 4 * 5, nbytes=2 * (12 + 20 + 15))
    batched = counted(lambda a, b: jnp.einsum("bhtd,bhsd->bhts", a, b), of((2, 3, 7, 8)), of((2, 3, 5, 8)))
    assert batched.flops == 2 * 2 * 3 * 7 * 5 * 8


def convolution(x, kernel, stride, groups=1):
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=groups
    )


def test_convolutions():
    taps = 2 * 3 * 8 * 8 * 9 * 4 * 6
    assert counted(lambda x, k: convolution(x, k, 1), of((3, 8, 8, 4)), of((3, 3, 4, 6))).flops == taps
    assert counted(lambda x, k: convolution(x, k, 2), of((3, 8, 8, 4)), of((3, 3, 4, 6))).flops == taps // 4
    assert counted(lambda x, k: convolution(x, k, 1, 2), of((3, 8, 8, 4)), of((3, 3, 2, 6))).flops == taps // 2


def test_a_transposed_convolution_does_not_multiply_the_zeros_between_pixels():
    up = lambda x, k: jax.lax.conv_transpose(x, k, (2, 2), "VALID")  # noqa: E731
    assert counted(up, of((1, 8, 8, 4)), of((2, 2, 4, 6))).flops == 2 * 8 * 8 * 4 * 4 * 6  # 4 new pixels for each


def test_the_ways_back_of_a_convolution_cost_what_it_costs():
    """Patches: stride = kernel, so that no tap falls outside."""
    loss = lambda x, k: convolution(x, k, 4).sum()  # noqa: E731
    x, kernel = of((2, 16, 16, 3)), of((4, 4, 3, 5))
    once = 2 * 2 * 4 * 4 * 16 * 3 * 5
    assert counted(jax.grad(loss, 1), x, kernel).flops == once  # the sum needs no forward pass
    assert counted(jax.grad(loss, 0), x, kernel).flops == once


def test_loops_and_calls():
    square = of((4, 4))
    once = 2 * 4**3
    turned = lambda x: jax.lax.fori_loop(0, 7, lambda i, x: jax.jit(jnp.matmul)(x, x), x)  # noqa: E731
    assert counted(turned, square) == counted(lambda x: x @ x, square) * 7
    twice = lambda x: jax.lax.scan(lambda x, _: (turned(x), None), x, length=3)[0]  # noqa: E731
    assert counted(twice, square).flops == 21 * once
    longest = lambda x: jax.lax.cond(x[0, 0] > 0, lambda: x @ x @ x, lambda: x @ x)  # noqa: E731
    assert counted(longest, square).flops == 2 * once
    endless = lambda x: jax.lax.while_loop(lambda x: x[0, 0] < 9, lambda x: x @ x, x)  # noqa: E731
    assert counted(endless, square) == dataclasses.replace(counted(jnp.matmul, square, square), unbounded=1)
    assert counted(lambda x: jax.lax.while_loop(lambda x: x < 9, lambda x: x + 1, x), of(())) == Work()


def test_what_nobody_needs_is_free():
    def weights(parts, kernel):
        def turn(total, part):
            return (total[0] + part.sum(), total[1] + (part @ kernel).sum()), None

        return jax.lax.scan(turn, (jnp.zeros(()), jnp.zeros(())), parts)[0][0]

    assert counted(weights, of((2, 3, 4)), of((4, 5))) == Work()


def test_the_backward_pass_and_what_it_computes_again():
    def layers(a, b, x):
        return jnp.tanh(x @ a) @ b

    def loss(function):
        return lambda a, b, x: jnp.square(function(a, b, x)).sum()

    shapes, once = (of((4, 4)), of((4, 4)), of((4, 4))), 2 * 4**3
    plain = jax.grad(loss(layers), (0, 1))
    assert counted(plain, *shapes).flops == 5 * once  # two forward; both kernels and the hidden layer back
    again = jax.grad(loss(jax.checkpoint(layers)), (0, 1))
    assert counted(again, *shapes).flops == 6 * once  # and the hidden layer once more


def test_what_is_written_for_one_device_counts_for_all():
    mesh = make(MeshSpec(data=4, fsdp=2))
    part = jax.shard_map(
        jnp.matmul, mesh=mesh, in_specs=(PartitionSpec("data"), PartitionSpec()), out_specs=PartitionSpec("data")
    )
    assert counted(part, of((8, 4)), of((4, 5))).flops == 2 * (2 * 8 * 4 * 5)  # what fsdp's two do alike, twice


@pytest.mark.parametrize(("name", "side"), [("vit_b", 1024), ("vit_h", 224)])
def test_encoders_agree_with_the_formula(name, side):
    encoder = getattr(Sam, name)(dtype="bfloat16").image_encoder
    params = table.abstract(encoder.table())
    found = counted(lambda p, x: encoder.apply(p, x)[0], params, of((1, side, side, 3)))
    assert found.flops == pytest.approx(flops.vit_det(encoder, side), rel=0.01)


def test_a_step_agrees_with_the_formula():
    """Which takes three forward passes; but the patches have no way back to the pixels: 0.2 % here."""
    method = Sami.make(Vit.ti(dtype="bfloat16"), CachedFeatures(256))
    batch = {
        "image": of((2, 224, 224, 3), np.uint8),
        "target": of((2, 14, 14, 256)),
        "index": of((2,), np.int32),
        "weight": of((2,)),
    }

    def loss(params, batch):
        terms, _ = method.loss(params, {}, {}, batch, jax.random.key(0), jnp.int32(0))
        return sum(total for total, _, _ in terms.values())

    found = counted(jax.grad(loss), table.abstract(method.table()["params"]), batch)
    assert found.flops == pytest.approx(2 * flops.sami_step(method), rel=0.02)
    assert found.narrow > 0.95 * found.flops
