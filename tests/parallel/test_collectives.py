"""What a program receives is known by hand: small programs on eight devices, and texts of other backends."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import PartitionSpec as P

from sadist_jax.parallel import collectives
from sadist_jax.parallel.mesh import MeshSpec, make

ROWS, BYTES = 16, 4  # of a device's part, a vector of float32
MESH = make(MeshSpec(data=2, fsdp=4))
ALONG_DATA = ((0, 4), (1, 5), (2, 6), (3, 7))
ALONG_FSDP = ((0, 1, 2, 3), (4, 5, 6, 7))
ALL = (tuple(range(8)),)


def find(body, outputs=None):
    """Collectives of a program in which every device starts with its own ROWS numbers."""
    program = jax.shard_map(body, mesh=MESH, in_specs=P(("data", "fsdp")), out_specs=outputs or P(), check_vma=False)
    return collectives.find(jax.jit(program).lower(jnp.zeros(8 * ROWS)).compile().as_text())


@pytest.mark.parametrize(
    ("body", "kind", "result", "groups", "received"),
    [
        (lambda x: jax.lax.psum(x, ("data", "fsdp")), "all-reduce", ROWS, ALL, 2 * ROWS * 7 / 8),
        (lambda x: jax.lax.psum(x, "data"), "all-reduce", ROWS, ALONG_DATA, 2 * ROWS / 2),
        (lambda x: jax.lax.all_gather(x, "fsdp"), "all-gather", 4 * ROWS, ALONG_FSDP, 3 * ROWS),
        (lambda x: jax.lax.psum_scatter(x, "fsdp", tiled=True), "reduce-scatter", ROWS / 4, ALONG_FSDP, 3 / 4 * ROWS),
        (lambda x: jax.lax.all_to_all(x, "fsdp", 0, 0, tiled=True), "all-to-all", ROWS, ALONG_FSDP, 3 / 4 * ROWS),
        (lambda x: jax.lax.ppermute(x, "data", [(0, 1)]), "collective-permute", ROWS, None, ROWS),
    ],
)
def test_bytes_and_groups_follow_from_the_program(body, kind, result, groups, received):
    (one,) = find(body)
    assert (one.kind, one.bytes, one.times, one.bounded) == (kind, result * BYTES, 1, True)
    assert one.received == received * BYTES
    assert {shape.dtype for shape in one.results} == {"f32"}
    assert {*one.groups} == {*(groups or ((0, 4), (1, 5), (2, 6), (3, 7)))}


def test_a_program_without_exchange_has_none():
    assert find(lambda x: x * 2, P(("data", "fsdp"))) == []


def test_a_loop_counts_each_turn():
    def body(x):
        def outer(total, _):
            inner = jax.lax.scan(lambda t, _: (jnp.sin(jax.lax.psum(t, "fsdp")), None), total, length=3)[0]
            return jnp.cos(jax.lax.psum(inner, "data")), None

        return jax.lax.scan(outer, x, length=5)[0]

    found = {one.groups: one for one in find(body)}
    assert {groups: (one.times, one.bounded) for groups, one in found.items()} == {
        ALONG_FSDP: (15, True),
        ALONG_DATA: (5, True),
    }
    assert collectives.times(found.values()) == 20
    expected = 15 * 2 * ROWS * BYTES * 3 / 4 + 5 * 2 * ROWS * BYTES / 2
    assert collectives.received(found.values(), "all-reduce") == expected
    assert collectives.received(found.values(), "all-gather") == 0


def test_a_loop_of_unknown_length_counts_once_and_says_so():
    (one,) = find(lambda x: jax.lax.while_loop(lambda t: t[0] < 9, lambda t: jax.lax.psum(t, "fsdp"), x))
    assert (one.times, one.bounded) == (1, False)


ASYNCHRONOUS = """\
HloModule jit_step, is_scheduled=true, replica_count=1, num_partitions=8

%sum (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %add = f32[] add(%a, %b)
}

%scatter (p: f32[64]) -> f32[8] {
  %p = f32[64]{0} parameter(0)
  ROOT %reduce-scatter.1 = f32[8]{0} reduce-scatter(%p), channel_id=3, replica_groups={}, dimensions={0}, to_apply=%sum
}

ENTRY %main (x: bf16[2,128], y: f32[64]) -> (bf16[8,128], f32[8]) {
  %x = bf16[2,128]{1,0:T(8,128)(2,1)} parameter(0), metadata={op_name="x"}
  %y = f32[64]{0} parameter(1)
  %all-gather-start = (bf16[2,128]{1,0:T(8,128)(2,1)}, bf16[8,128]{1,0:T(8,128)(2,1)}) all-gather-start(%x), channel_id=1, replica_groups=[2,4]<=[4,2]T(1,0), dimensions={0}, use_global_device_ids=true, metadata={op_name="jit(step)/gather"}
  %async = ((f32[64]{0}), f32[8]{0}) async-start(%y), calls=%scatter
  %all-gather-done = bf16[8,128]{1,0:T(8,128)(2,1)} all-gather-done(%all-gather-start)
  %async-done = f32[8]{0} async-done(%async), calls=%scatter
  ROOT %out = (bf16[8,128]{1,0}, f32[8]{0}) tuple(%all-gather-done, %async-done)
}
"""  # noqa: E501


def test_an_asynchronous_pair_is_one_collective_with_the_bytes_of_its_result():
    gather, scatter = collectives.find(ASYNCHRONOUS)
    assert (gather.kind, gather.results, gather.source) == (
        "all-gather", (collectives.Shape("bf16", (8, 128)),), "jit(step)/gather",
    )  # fmt: skip
    assert gather.groups == ((0, 2, 4, 6), (1, 3, 5, 7))
    assert gather.received == 8 * 128 * 2 * 3 / 4
    assert (scatter.kind, scatter.groups, scatter.received) == ("reduce-scatter", ALL, 8 * 4 * 7)


@pytest.mark.parametrize(
    ("written", "groups"),
    [
        ("{{0,1},{2,3}}", ((0, 1), (2, 3))),
        ("[2,4]<=[8]", ALONG_FSDP),
        ("mesh['axis_0'=2,'axis_1'=4] {'axis_1'}", ALONG_FSDP),
        ("mesh['axis_0'=4,'axis_1'=1,'axis_2'=2], device_ids=([2,4]T(1,0)) {'axis_0'}", ALONG_FSDP),
        ("mesh['axis_0'=2,'axis_1'=2], device_ids=(0,2,1,3) {'axis_1'}", ((0, 2), (1, 3))),
        ("mesh['axis_0'=2,'axis_1'=4] {'axis_0'}", ALONG_DATA),
        ("mesh['axis_0'=2,'axis_1'=4] {'axis_0','axis_1'}", ALL),
        ("mesh['axis_0'=8] {'axis_0':(1)2}", ALONG_DATA),
        ("mesh['axis_0'=8] {'axis_0':(2)2}", ((0, 2), (1, 3), (4, 6), (5, 7))),
        ("mesh['axis_0'=8] {'axis_0':(4)2}", ((0, 1), (2, 3), (4, 5), (6, 7))),
    ],
)
def test_groups_are_read_in_each_of_xla_s_forms(written, groups):
    gather, _ = collectives.find(ASYNCHRONOUS.replace("[2,4]<=[4,2]T(1,0)", written))
    assert gather.groups == groups


def test_groups_of_a_form_that_is_not_known_are_not_guessed():
    with pytest.raises(ValueError, match=r"unknown form: @mesh"):
        collectives.find(ASYNCHRONOUS.replace("replica_groups=[2,4]<=[4,2]T(1,0)", "replica_groups=@mesh"))
