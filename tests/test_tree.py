import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sadist_jax import tree
from sadist_jax.errors import BadInput

NESTED = {"vit": {"blocks": {"0": {"w": 1, "b": 2}, "10": {"w": 3}}, "pos": 4}, "head": 5}
FLAT = {"vit.blocks.0.w": 1, "vit.blocks.0.b": 2, "vit.blocks.10.w": 3, "vit.pos": 4, "head": 5}

keys = st.text(st.characters(codec="ascii", exclude_characters="."), min_size=1, max_size=3)
trees = st.recursive(st.integers(), lambda inner: st.dictionaries(keys, inner, min_size=1, max_size=3), max_leaves=8)


def test_names_are_keys_joined_with_dots_in_the_trees_order():
    assert list(tree.flatten(NESTED).items()) == list(FLAT.items())
    assert tree.unflatten(FLAT) == NESTED
    assert tree.get(NESTED, "vit.blocks.10.w") == 3
    assert tree.get(NESTED, "vit.blocks.0") == {"w": 1, "b": 2}


@given(st.dictionaries(keys, trees, max_size=4))
def test_unflatten_undoes_flatten(nested):
    assert tree.unflatten(tree.flatten(nested)) == nested


@pytest.mark.parametrize("flat", [{"a": 1, "a.b": 2}, {"a.b": 2, "a": 1}, {"a.b": 1, "a.b.c.d": 2}])
def test_a_name_cannot_be_leaf_and_branch(flat):
    with pytest.raises(ValueError, match=r"'a(\.b\.c\.d|\.b)?'"):
        tree.unflatten(flat)


def test_a_pattern_must_match_the_whole_name():
    assert tree.matches(r"vit\.blocks\.\d+\.w", FLAT) == ["vit.blocks.0.w", "vit.blocks.10.w"]
    assert tree.matches(".*", FLAT) == list(FLAT)
    for part in ("vit", r"blocks\.0\.w", r"vit\.po"):
        with pytest.raises(BadInput, match="matches no parameter"):
            tree.matches(part, FLAT)


def test_a_typo_gets_the_nearest_names():
    with pytest.raises(BadInput, match=r"'vit\\\\\.pso' matches no parameter; the nearest names are vit\.pos"):
        tree.matches(r"vit\.pso", FLAT)
    with pytest.raises(BadInput, match=r"the nearest names are \(none\)"):
        tree.matches("a", [])
    with pytest.raises(BadInput, match="is not a regular expression"):
        tree.matches("vit.(", FLAT)


def test_select_is_the_union_and_every_pattern_counts():
    assert tree.select(NESTED, ["head", r"vit\.p.*", "h.*"]) == {"head", "vit.pos"}
    assert tree.select(NESTED, []) == set()
    with pytest.raises(BadInput, match="'hed' matches no parameter"):
        tree.select(NESTED, ["head", "hed"])


def test_partition_and_merge_undo_each_other():
    inside, rest = tree.partition(NESTED, {"vit.blocks.0.w", "head"})
    assert inside == {"vit": {"blocks": {"0": {"w": 1}}}, "head": 5}
    assert rest == {"vit": {"blocks": {"0": {"b": 2}, "10": {"w": 3}}, "pos": 4}}
    assert tree.merge(inside, rest) == NESTED
    assert tree.merge() == {}
    with pytest.raises(ValueError, match="'head' appears in two of the trees"):
        tree.merge(inside, {"head": 6})


def test_map_named_keeps_the_structure_and_pairs_by_name():
    other = tree.unflatten({name: 10 * value for name, value in reversed(FLAT.items())})
    found = tree.map_named(lambda name, a, b: (name, a + b), NESTED, other)
    assert tree.flatten(found) == {name: (name, 11 * value) for name, value in FLAT.items()}


def test_difference_lists_everything():
    lines = tree.difference({"a": (2,), "b": (3, 4), "c": (1,)}, {"b": (4, 3), "c": (1,), "d": ()}).splitlines()
    assert lines == ["missing: a (2,)", "unknown: d ()", "wrong shape: b is (4, 3), must be (3, 4)"]
    assert tree.difference({"a": (2,)}, {"a": (2,)}) == ""


def test_the_norm_is_summed_in_float32_and_cast_leaves_integers():
    nested = {"a": jnp.full(300, 16, jnp.float16), "b": {"c": jnp.array([-48.0])}}  # 300 * 256 is beyond float16
    np.testing.assert_allclose(tree.norm(nested), np.sqrt(300 * 256 + 48**2), rtol=1e-6)
    assert tree.norm({}) == 0
    cast = tree.cast({"a": jnp.ones(2), "n": jnp.arange(2), "m": jnp.array([True])}, jnp.bfloat16)
    assert [cast[k].dtype for k in "anm"] == [jnp.bfloat16, jnp.int32, jnp.bool_]
