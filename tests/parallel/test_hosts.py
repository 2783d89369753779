import jax
import numpy as np
import pytest

from sadist_jax.errors import BadInput
from sadist_jax.parallel import hosts, shard
from sadist_jax.parallel.hosts import HostSpec
from sadist_jax.parallel.mesh import MeshSpec, make


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    for variable in ("SADIST_COORDINATOR", "SADIST_PROCESSES", "SADIST_PROCESS", "SLURM_NTASKS", "SLURM_PROCID"):
        monkeypatch.delenv(variable, raising=False)


def test_one_process_starts_nothing():
    hosts.start(HostSpec())
    hosts.start(HostSpec("localhost:1", 1, 0))
    hosts.barrier("nobody else")
    assert (hosts.count(), hosts.index(), jax.distributed.is_initialized()) == (1, 0, False)


def test_half_an_address_is_refused():
    with pytest.raises(BadInput, match="several processes need all of"):
        hosts.start(HostSpec(coordinator="localhost:1"))


def test_the_environment_is_read(monkeypatch):
    monkeypatch.setenv("SADIST_PROCESSES", "two")
    with pytest.raises(BadInput, match="SADIST_PROCESSES must be a whole number, not 'two'"):
        hosts.start(HostSpec())


def test_rows_are_cut_over_all_devices_in_order():
    rows = {
        "index": np.arange(16, dtype=np.int64),
        "x": np.arange(32.0).reshape(16, 2),
        "image": np.zeros((16, 2), np.uint8),
    }
    batch = hosts.global_batch(rows, shard.rows(make(MeshSpec(data=2, fsdp=4))))
    assert [batch[name].dtype for name in rows] == [np.int32, np.float32, np.uint8]
    np.testing.assert_array_equal(batch["x"], rows["x"])
    parts = sorted(batch["index"].addressable_shards, key=lambda part: part.index[0].start)
    assert [part.data.tolist() for part in parts] == [[2 * i, 2 * i + 1] for i in range(8)]


def test_an_index_beyond_32_bits_is_not_wrapped():
    with pytest.raises(OverflowError):
        hosts.global_batch({"index": np.full(8, 2**31)}, shard.rows(make(MeshSpec())))


def test_place_gives_each_device_its_part():
    mesh = make(MeshSpec(data=1, fsdp=8))
    value = np.arange(64, dtype=np.float16).reshape(8, 8)
    cut = shard.shardings(shard.ShardSpec(min_size=1), mesh, {"a": value})["a"]
    placed = hosts.place(value, cut, np.float32)
    assert placed.sharding == cut
    assert placed.addressable_shards[0].data.shape == (1, 8)
    np.testing.assert_array_equal(hosts.fetch(placed), value)
