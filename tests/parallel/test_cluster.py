import pytest

from sadist_jax.errors import BadInput
from sadist_jax.parallel import cluster
from sadist_jax.parallel.cluster import Member, member

OURS = ("SADIST_COORDINATOR", "SADIST_PROCESSES", "SADIST_PROCESS", "JAX_LOCAL_DEVICE_IDS")
SLURM = (
    "SLURM_NTASKS", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_STEP_NODELIST", "SLURM_STEP_TASKS_PER_NODE",
    "SLURM_NODEID", "SLURM_LOCALID", "SLURM_JOB_ID", "SLURM_GPUS_PER_TASK", "SLURM_TRES_PER_TASK",
)  # fmt: skip


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """Sets variables, of an environment without any of ours."""
    for variable in (*OURS, *SLURM, *cluster.GPUS):
        monkeypatch.delenv(variable, raising=False)
    return lambda **variables: [monkeypatch.setenv(name, value) for name, value in variables.items()]


@pytest.fixture
def task(environment):
    """Task 5 of 8 on two nodes of four, in the words of srun."""
    environment(
        SLURM_JOB_ID="8195", SLURM_NTASKS="8", SLURM_PROCID="5", SLURM_STEP_NUM_TASKS="8", SLURM_NODEID="1",
        SLURM_STEP_NODELIST="gpu[07-08]", SLURM_STEP_TASKS_PER_NODE="4(x2)", SLURM_LOCALID="1",
    )  # fmt: skip


def test_nothing_said_is_one_process():
    assert member() is None
    assert member("localhost:1", 1, 0) is None


def test_options_come_before_the_environment(environment):
    environment(SADIST_COORDINATOR="a:1", SADIST_PROCESSES="4", SADIST_PROCESS="3")
    assert member() == Member("a", 1, 4, 3)
    assert member("b:2", process=0) == Member("b", 2, 4, 0)
    assert member("[::1]:2") == Member("::1", 2, 4, 3)
    assert member("[::1]:2").coordinator == "[::1]:2"


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (("a:1", None, None), "need all of"),
        ((None, 2, 0), "need all of"),
        (("a:1", 2, 2), "is 2 of hosts.processes"),
        (("a:1", 2, -1), "is -1 of hosts.processes"),
        ((None, 1, 3), "is 3 of hosts.processes"),
        (("a:1", 0, 0), "must be 1 or more"),
        (("a", 2, 0), "is 'a'; give the name"),
        (("a:port", 2, 0), "is 'a:port'; give the name"),
        (("a:65536", 2, 0), "is 'a:65536'; give the name"),
        ((":1", 2, 0), "is ':1'; give the name"),
    ],
)
def test_what_cannot_be_is_refused(given, why):
    with pytest.raises(BadInput, match=why):
        member(*given)


def test_a_variable_that_is_no_number_is_refused(environment):
    environment(SADIST_PROCESSES="two")
    with pytest.raises(BadInput, match="SADIST_PROCESSES must be a whole number, not 'two'"):
        member()


def test_slurm_says_who_is_who_and_the_coordinator_may_be_another(task, environment):
    assert (member().host, member().processes, member().process) == ("gpu07", 8, 5)
    assert member().port == 61440 + 3  # JAX's rule: 8195 = 2 * 4096 + 3
    environment(SADIST_COORDINATOR="10.0.0.7:99")
    assert member().coordinator == "10.0.0.7:99"
    environment(SADIST_PROCESSES="1", SADIST_PROCESS="0")
    assert member() is None  # eight runs of one process each


def test_a_batch_script_is_one_process(environment):
    environment(SLURM_JOB_ID="1", SLURM_NTASKS="8", SLURM_PROCID="0")
    assert member() is None


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("node001", "node001"),
        ("node001,other", "node001"),
        ("node[001-0015],other", "node001"),
        ("node[001,007-015]", "node001"),
        ("rack[2-3]-node[05,07],x", "rack2-node05"),
    ],
)
def test_the_first_of_slurms_nodes(nodes, first):
    assert cluster.first_node(nodes) == first


@pytest.mark.parametrize(
    ("variables", "devices"),
    [
        ({"CUDA_VISIBLE_DEVICES": "0,1,2,3"}, (1,)),
        ({"CUDA_VISIBLE_DEVICES": "0,1,2,3,4,5,6,7"}, (2, 3)),
        ({"CUDA_VISIBLE_DEVICES": "3"}, None),  # bound: each of the four sees another one
        ({"CUDA_VISIBLE_DEVICES": "0,1,2,3", "SLURM_GPUS_PER_TASK": "4"}, None),
        ({"CUDA_VISIBLE_DEVICES": "0,1,2,3", "SLURM_TRES_PER_TASK": "cpu=2,gres/gpu=4"}, None),
        ({"CUDA_VISIBLE_DEVICES": "0,1,2,3", "JAX_LOCAL_DEVICE_IDS": "2"}, None),
        ({"ROCR_VISIBLE_DEVICES": "0,1,2,3"}, (1,)),
        ({}, (1,)),
        ({"CUDA_VISIBLE_DEVICES": "0,1,2,3", "SLURM_STEP_TASKS_PER_NODE": "7,1"}, None),  # alone on its node: all
    ],
)
def test_tasks_of_a_node_share_its_gpus(task, environment, variables, devices):
    environment(**variables)
    assert member().devices == devices
