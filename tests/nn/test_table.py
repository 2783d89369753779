import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sadist_jax import tree
from sadist_jax.errors import BadInput
from sadist_jax.nn import table
from sadist_jax.nn.table import Leaf

TABLE = {
    "dense": {"weight": Leaf((2, 3), table.trunc_normal, kind="dense"), "bias": Leaf((3,))},
    "conv": {"weight": Leaf((5, 7, 2, 3), table.xavier_uniform, kind="conv")},
    "up": {"weight": Leaf((2, 2, 4, 6), table.xavier_uniform, kind="conv_transpose")},
    "norm": {"weight": Leaf((4,), table.ones)},
    "code": Leaf((2, 8), jax.nn.initializers.normal(1.0), role="buffer"),
}
REFERENCE = {  # PyTorch's layouts
    "dense.weight": (3, 2),
    "dense.bias": (3,),
    "conv.weight": (3, 2, 5, 7),
    "up.weight": (4, 6, 2, 2),
    "norm.weight": (4,),
    "code": (2, 8),
}


def numbered() -> dict[str, np.ndarray]:
    return {name: np.arange(np.prod(shape), dtype=np.float32).reshape(shape) for name, shape in REFERENCE.items()}


def test_the_reference_layout_becomes_ours():
    params = table.from_reference(TABLE, numbered())
    state = numbered()
    for i, o in np.ndindex(2, 3):
        assert params["dense"]["weight"][i, o] == state["dense.weight"][o, i]
    for row, col, i, o in np.ndindex(5, 7, 2, 3):
        assert params["conv"]["weight"][row, col, i, o] == state["conv.weight"][o, i, row, col]
    for row, col, i, o in np.ndindex(2, 2, 4, 6):
        assert params["up"]["weight"][row, col, i, o] == state["up.weight"][i, o, row, col]
    np.testing.assert_array_equal(params["code"], state["code"])


def test_there_and_back_changes_nothing():
    state = numbered() | {"dense.bias": np.array([-0.0, np.nan, 1e-45], np.float32)}
    back = table.to_reference(TABLE, table.from_reference(TABLE, state))
    assert list(back) == list(state)
    for name, value in state.items():
        assert back[name].dtype == value.dtype
        assert back[name].flags.c_contiguous
        assert back[name].tobytes() == value.tobytes(), name


def test_half_precision_is_kept():
    state = {name: value.astype(np.float16) for name, value in numbered().items()}
    params = table.from_reference(TABLE, state)
    assert {x.dtype for x in jax.tree.leaves(params)} == {np.dtype(np.float16)}


def test_every_disagreement_is_listed():
    state = numbered()
    del state["dense.bias"], state["norm.weight"]
    state |= {"dense.weight": np.zeros((2, 3)), "dense.scale": np.zeros(1)}
    with pytest.raises(BadInput, match=r"best\.pth") as error:
        table.from_reference(TABLE, state, source="best.pth")
    for line in (
        "missing: dense.bias (3,)",
        "missing: norm.weight (4,)",
        "unknown: dense.scale (1,)",
        "wrong shape: dense.weight is (2, 3), must be (3, 2)",
    ):
        assert line in str(error.value).splitlines()


def test_parameters_of_another_model_are_not_written():
    params = table.init(TABLE, jax.random.key(0))
    del params["code"]
    with pytest.raises(BadInput, match=r"missing: code \(2, 8\)"):
        table.to_reference(TABLE, params)


def test_the_start_value_of_a_leaf_depends_on_its_name_and_the_key_alone():
    before = table.init(TABLE, jax.random.key(3))
    more = {"first": Leaf((9, 9), table.trunc_normal, kind="dense")} | TABLE | {"last": Leaf((1,))}
    after = table.init(more, jax.random.key(3))
    for name, value in tree.flatten(before).items():
        np.testing.assert_array_equal(tree.get(after, name), value)
    other = table.init(TABLE, jax.random.key(4))
    assert not np.array_equal(other["dense"]["weight"], before["dense"]["weight"])
    twins = table.init({"a": TABLE["code"], "b": TABLE["code"]}, jax.random.key(3))
    assert not np.array_equal(twins["a"], twins["b"])


def test_the_abstract_tree_and_the_count():
    abstract = table.abstract(TABLE, jnp.bfloat16)
    params = table.init(TABLE, jax.random.key(0), jnp.bfloat16)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), params) == jax.tree.map(lambda x: (x.shape, x.dtype), abstract)
    assert table.count(TABLE) == 6 + 3 + 5 * 7 * 6 + 4 * 24 + 4  # without the buffer
