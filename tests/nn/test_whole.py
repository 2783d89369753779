import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from sadist_jax.nn import layers
from sadist_jax.nn.whole import whole
from sadist_jax.parallel import collectives
from sadist_jax.parallel.mesh import MeshSpec, make

SIDE, ROWS = 64, 16


def compiled(mesh, use):
    """A product of rows that are cut over all devices with a weight that is cut over fsdp, and its gradient."""

    def step(weight, x):
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            return jax.grad(lambda w: jnp.square(x @ use(w)).sum())(weight)

    cut = NamedSharding(mesh, P("fsdp"))
    return jax.jit(step, in_shardings=(cut, NamedSharding(mesh, P(("data", "fsdp")))), out_shardings=cut).lower(
        jnp.zeros((SIDE, SIDE)), jnp.zeros((ROWS, SIDE))
    ).compile()  # fmt: skip


@pytest.mark.parametrize("spec", [MeshSpec(fsdp=8), MeshSpec(fsdp=4)])
def test_the_weight_is_gathered_and_no_activation(spec):
    mesh = make(spec)
    found = collectives.find(compiled(mesh, lambda w: whole(w, w.dtype)).as_text())
    gathers = [one for one in found if one.kind == "all-gather"]
    assert {one.results for one in gathers} == {(collectives.Shape("f32", (SIDE, SIDE)),)}
    others = {tuple(sorted(shape.sides)) for one in found for shape in one.results if one.kind != "all-gather"}
    assert others <= {(SIDE, SIDE), (SIDE // mesh.shape["fsdp"], SIDE)}


def test_value_and_gradient_are_those_of_one_device():
    rng = np.random.default_rng(0)
    weight, x = (jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in ((SIDE, SIDE), (ROWS, SIDE)))
    mesh = make(MeshSpec(fsdp=8))
    expected = jax.grad(lambda w: jnp.square(x @ w).sum())(weight)
    np.testing.assert_allclose(compiled(mesh, lambda w: whole(w, w.dtype))(weight, x), expected, rtol=1e-5, atol=1e-4)


def test_outside_a_mesh_it_is_a_change_of_type():
    text = str(jax.make_jaxpr(lambda w: whole(w, jnp.bfloat16))(jnp.zeros(4)))
    assert "sharding_constraint" not in text
    assert whole(jnp.ones(3), jnp.bfloat16).dtype == jnp.bfloat16


def test_a_kernel_that_was_rounded_before_gives_the_same_bits_in_bfloat16():
    rng = np.random.default_rng(0)
    weight, x = (jnp.asarray(rng.normal(size=(8, 8)), dtype) for dtype in (jnp.float32, jnp.bfloat16))
    rounded = {"weight": weight.astype(jnp.bfloat16)}
    np.testing.assert_array_equal(layers.dense({"weight": weight}, x), layers.dense(rounded, x))


@pytest.mark.parametrize("spec", [MeshSpec(), MeshSpec(fsdp=2, tensor=2)])
def test_a_mesh_that_cuts_nothing_or_computes_in_parts_is_left_alone(spec):
    with jax.sharding.use_abstract_mesh(make(spec).abstract_mesh):
        text = str(jax.make_jaxpr(lambda w: whole(w, w.dtype))(jnp.zeros(4)))
    assert "sharding_constraint" not in text
