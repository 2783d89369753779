import jax
import numpy as np
import pytest

from sadist_jax.errors import BadInput
from sadist_jax.parallel import hosts, preflight, shard
from sadist_jax.parallel.hosts import HostSpec
from sadist_jax.parallel.mesh import MeshSpec, make


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    for variable in ("COORDINATOR", "PROCESSES", "PROCESS", "HOSTS", "PATIENCE"):
        monkeypatch.delenv(f"SADIST_{variable}", raising=False)
    monkeypatch.delenv("SLURM_STEP_NUM_TASKS", raising=False)


@pytest.fixture
def calls(monkeypatch):
    """What would have been started."""
    found = []
    monkeypatch.setattr(preflight, "roll_call", lambda *args: found.append(args))
    monkeypatch.setattr(jax.distributed, "initialize", lambda *args, **options: found.append((args, options)))
    return found


def test_one_process_starts_nothing(calls):
    hosts.start(HostSpec())
    hosts.start(HostSpec("localhost:1", 1, 0))
    hosts.barrier("nobody else")
    assert (hosts.count(), hosts.index(), calls) == (1, 0, [])


def test_one_process_agrees_with_itself():
    assert [hosts.any_of(flag) for flag in (True, False)] == [True, False]
    assert hosts.least(2**80) == 2**80
    assert hosts.gather_text("ä") == ["ä"]


@pytest.mark.parametrize(
    ("message", "lost"),
    [
        ("UNKNOWN: Gloo AllGather failed: Connection closed by peer [10.0.0.2]:55981\nmore", True),
        ("INTERNAL: NCCL operation ncclAllReduce failed: unhandled system error", True),
        ("UNAVAILABLE: The tasks have crashed", True),
        ("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 8 bytes", False),
    ],
)
def test_errors_that_come_of_another_process(message, lost):
    problem = hosts.lost(jax.errors.JaxRuntimeError(message))
    assert (problem is not None) == lost
    assert "more" not in str(problem)
    assert hosts.lost(ValueError(message)) is None


def test_half_an_address_is_refused(calls):
    with pytest.raises(BadInput, match="several processes need all of"):
        hosts.start(HostSpec(coordinator="localhost:1"))


def test_the_roll_is_called_before_jax_connects(calls, monkeypatch):
    monkeypatch.setenv("SADIST_PATIENCE", "90")
    hosts.start(HostSpec("localhost:1", 4, 2))
    (member, seconds), (address, options) = calls
    assert (member.coordinator, seconds) == ("localhost:1", 90)
    assert address == ("localhost:1", 4, 2)
    assert (options["heartbeat_timeout_seconds"], options["initialization_timeout"]) == (30, 90)
    assert options["local_device_ids"] is None


@pytest.mark.parametrize("variable", [False, True])
def test_a_pod_is_left_to_jax(calls, monkeypatch, variable):
    if variable:
        monkeypatch.setenv("SADIST_HOSTS", "auto")
    hosts.start(HostSpec(auto=not variable))
    assert calls == [((), {"initialization_timeout": 300, "heartbeat_timeout_seconds": 30})]


def test_no_pod_where_one_was_promised(monkeypatch):
    """JAX's own detection: this machine is no TPU host and nothing started mpirun."""
    for variable in ("OMPI_MCA_orte_hnp_uri", "SLURM_JOB_ID", "KUBERNETES_SERVICE_HOST", "JAX_COORDINATOR_ADDRESS"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("jax._src.xla_bridge.backends_are_initialized", lambda: False)
    with pytest.raises(BadInput, match="is for TPU pods and the mpirun of Open MPI 4, and JAX finds neither here"):
        hosts.start(HostSpec(auto=True))
    monkeypatch.setenv("SADIST_HOSTS", "some")
    with pytest.raises(BadInput, match="SADIST_HOSTS is 'some'; it can be auto"):
        hosts.start()


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
