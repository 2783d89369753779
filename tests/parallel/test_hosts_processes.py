"""Two real processes: what they tell each other, and how a start that fails ends."""

import json
import socket
import time

import pytest

from tests.parallel.pairs import pair

NOWHERE = "no-such-host.invalid"
pytestmark = [pytest.mark.processes, pytest.mark.timeout(300)]

TELL = """
import json
from sadist_jax.parallel import hosts
hosts.start()
me = hosts.index()
print(json.dumps({
    "any": [hosts.any_of(flag) for flag in (False, me == 1, True)],
    "least": [hosts.least(2**70 + me), hosts.least(-me)],
    "text": [hosts.gather_text(text) for text in ("", "é" * (me + 1), ["", "x" * 3000][me])],
}))
"""

FAIL = """
import sys
from sadist_jax import cli
from sadist_jax.cli import doctor
from sadist_jax.errors import BadInput
from sadist_jax.parallel import hosts
def job(argv):
    hosts.start()
    hosts.barrier("all are here")
    if hosts.index() == 1:
        raise {error}
    hosts.barrier("nobody else comes here")
doctor.main = job
sys.exit(cli.main(["doctor"]))
"""

CONFIG = """
from tests.train.toy import toy_run
def config():
    return toy_run({out!r})
"""


@pytest.fixture
def train(tmp_path):
    (tmp_path / "toy.py").write_text(CONFIG.format(out=str(tmp_path / "out")))
    return ["-m", "sadist_jax", "train", str(tmp_path / "toy.py")]


def test_what_one_says_all_hear():
    told = [json.loads(output.splitlines()[-1]) for code, output in pair(["-c", TELL], ["-c", TELL]) if code == 0]
    expected = {"any": [False, True, True], "least": [2**70, -1], "text": [["", ""], ["é", "éé"], ["", "x" * 3000]]}
    assert told == [expected, expected]


@pytest.mark.parametrize(("error", "code"), [("BadInput('my file')", 2), ("ZeroDivisionError('my file')", 1)])
def test_who_fails_alone_leaves_at_once_with_its_code(error, code):
    """JAX's own end waits for the others for five minutes, and they would wait for it."""
    (other, sentence), (found, output) = pair(*[["-c", FAIL.format(error=error)]] * 2, limit=90)
    assert found == code, output
    assert "my file" in output
    assert other == 3, sentence
    assert "sadist: another process of this run was lost or cannot be reached; see its log" in sentence
    assert "Traceback" not in sentence


def test_hosts_with_different_options_stop_before_the_first_step(train, tmp_path):
    ends = pair([*train, "--optim.lr", "0.5"], train)
    assert [code for code, _ in ends] == [3, 3], ends
    lines = {next(line for line in output.splitlines() if line.startswith("sadist:")) for _, output in ends}
    (sentence,) = lines
    assert sentence.startswith("sadist: process 1 (on ")
    assert "optim.lr is 0.001, not 0.5; start all of them with the same command" in sentence
    assert not (tmp_path / "out").exists()


def test_a_name_that_does_not_resolve_is_a_sentence_and_no_stack(train):
    begun = time.monotonic()
    ends = pair(train, train, SADIST_COORDINATOR=f"{NOWHERE}:1234", SADIST_PATIENCE="2")
    assert time.monotonic() - begun < 60  # 3 s of it waiting, the rest imports on a loaded machine
    for code, output in ends:
        (line,) = output.splitlines()
        assert (code, line.startswith("sadist: process ")) == (3, True)
        assert f"the name {NOWHERE} cannot be resolved" in line


def test_a_port_that_is_taken_is_a_sentence_and_no_stack(train):
    with socket.create_server(("127.0.0.1", 0)) as server:
        coordinator = f"127.0.0.1:{server.getsockname()[1]}"
        ends = pair(train, train, SADIST_COORDINATOR=coordinator, SADIST_PATIENCE="2")
    assert [code for code, _ in ends] == [3, 3]
    for (_, output), why in zip(ends, ("is taken", "another program"), strict=True):
        (line,) = output.splitlines()
        assert why in line
