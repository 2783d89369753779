import dataclasses

import jax
import numpy as np
import pytest

from sadist_jax import tree
from sadist_jax.errors import BadInput
from sadist_jax.nn import table as leaves
from sadist_jax.nn.table import Leaf
from sadist_jax.parallel import shard
from sadist_jax.parallel.mesh import MeshSpec, make
from sadist_jax.parallel.shard import ShardSpec
from sadist_jax.train import state as states
from tests.train.toy import Toy, net_table


@dataclasses.dataclass(frozen=True)
class Tables:
    """A method with these tables."""

    params: tuple
    frozen: tuple = ()

    def table(self):
        return {"params": dict(self.params), "frozen": dict(self.frozen), "extra": {}}


def test_buffers_and_statistics_are_held():
    """SAM's Fourier matrix is in the checkpoint but never trained."""
    inside = {"weight": Leaf((2,)), "gaussian": Leaf((3,), role="buffer"), "mean": Leaf((4,), role="stat")}
    layout = states.arrange(Tables((("net", inside),)))
    assert (set(layout.params["net"]), set(layout.frozen["net"])) == ({"weight"}, {"gaussian", "mean"})


def test_rejoin_gives_the_method_its_own_trees():
    layout = states.arrange(Toy(), [r"student\.head\..*"])
    params, frozen = leaves.abstract(layout.params), leaves.abstract(layout.frozen)
    whole, own = layout.rejoin(params, frozen)
    expected = Toy().table()
    assert tree.flatten(whole).keys() == tree.flatten(expected["params"]).keys()
    assert tree.flatten(own).keys() == tree.flatten(expected["frozen"]).keys()


def test_freezing_nothing_by_name_is_refused():
    with pytest.raises(BadInput, match="matches no parameter; the nearest names are student"):
        states.arrange(Toy(), [r"student\.hed\..*"])


def test_a_name_in_two_tables_is_refused():
    with pytest.raises(ValueError, match=r"net\.w"):
        states.arrange(Tables((("net", {"w": Leaf((1,))}),), (("net", {"w": Leaf((1,))}),)))


def test_fill_initialises_only_what_has_no_value():
    def never(key, shape, dtype):
        raise AssertionError("an initialiser ran for a leaf that has a value")

    table = net_table()
    covered = {"blocks.1.kernel": np.arange(256, dtype=np.float16).reshape(16, 16)}
    table["blocks"]["1"]["kernel"] = Leaf((16, 16), never)
    mesh = make(MeshSpec(data=1, fsdp=8))
    shardings = shard.shardings(ShardSpec(min_size=16), mesh, leaves.abstract(table))
    key = states.init_key(7)
    made = states.fill(table, covered, key, shardings)
    np.testing.assert_array_equal(made["blocks"]["1"]["kernel"], covered["blocks.1.kernel"].astype(np.float32))
    jax.tree.map(lambda leaf, sharding: leaf.sharding == sharding or pytest.fail(str(leaf)), made, shardings)
    fresh = leaves.init({k: v for k, v in table.items() if k != "blocks"}, key)
    np.testing.assert_allclose(made["head"]["kernel"], fresh["head"]["kernel"], rtol=1e-6)
