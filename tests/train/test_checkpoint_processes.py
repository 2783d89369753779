"""Two processes that share the checkpoints of a run: what one cannot do, both say, and neither waits for ever."""

import errno
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from sadist_jax.errors import BadInput
from sadist_jax.parallel import hosts, shard
from sadist_jax.parallel.mesh import MeshSpec, make
from sadist_jax.train import manifest
from sadist_jax.train.checkpoint import Checkpoints, CheckpointSpec
from sadist_jax.train.state import State

ROOT = Path(__file__).parents[2]


def state_at(step, where):
    value = np.random.default_rng(step).normal(size=(8, 500)).astype(np.float32)
    return jax.tree.map(lambda x, s: hosts.place(x, s), State(np.int32(step), {"w": value}, (), {}), where)


def no_space(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


def said(action):
    """What an action that must fail raises, and the seconds until then."""
    begun = time.monotonic()
    try:
        action()
    except BadInput as error:
        return str(error), time.monotonic() - begun
    raise AssertionError("nothing was raised")


def together(out, where, template):
    """Saved by both, restored by both, each process holding half; process 1 alone finds step 4 damaged, then none."""
    checkpoints = Checkpoints(out, CheckpointSpec(keep=3), {}, None)
    for step in (2, 4):
        checkpoints.save(state_at(step, where), {})
    yield "newest", int(checkpoints.restore(template).state.step)
    seen, real = [], manifest.problem

    def damaged_for_process_1(path, share, of):
        seen.append((path.name, share, of))
        return real(path, share, of) or ("a bit" if (share, path.name) == (1, "4") else None)

    manifest.problem = damaged_for_process_1
    found = checkpoints.restore(template).state
    yield "seen", seen
    yield "before", int(found.step)
    expected = state_at(2, where).params["w"].addressable_data(0)
    yield "same bits", bool(np.array_equal(found.params["w"].addressable_data(0), expected))
    manifest.problem = lambda path, share, of: "a bit" if share == 1 else None
    yield "none", said(lambda: checkpoints.restore(template))
    checkpoints.close()


def failing_at_the_start(out, where, template):
    """Process 0 finds no space when a save begins."""
    checkpoints = Checkpoints(out, CheckpointSpec(), {}, None)
    checkpoints.save(state_at(2, where), {})
    checkpoints.settle()
    checkpoints._make_room = no_space
    yield "start", said(lambda: checkpoints.save(state_at(4, where), {}))
    checkpoints.close()


def failing_in_the_background(out, where, template):
    """Process 0 finds no space when everything else is written; process 1 is left at Orbax's meeting point."""
    checkpoints = Checkpoints(out, CheckpointSpec(), {}, None)
    checkpoints.save(state_at(2, where), {})
    checkpoints.settle()
    manifest.write = no_space
    checkpoints.save(state_at(4, where), {})
    yield "background", said(lambda: checkpoints.save(state_at(6, where), {}))
    checkpoints.close()


def main(scenario, out):
    hosts.start()
    mesh = make(MeshSpec(fsdp=2))
    where = State(shard.replicated(mesh), {"w": jax.NamedSharding(mesh, jax.P("fsdp"))}, (), {})
    template = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), state_at(0, where), where)
    results = dict(globals()[scenario](Path(out), where, template))
    Path(out, f"results-{hosts.index()}.json").write_text(json.dumps(results))


def run(scenario, out):
    """What the two processes found, and how long it took until both had ended."""
    out.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "XLA_FLAGS": "--xla_force_host_platform_device_count=1",
        "SADIST_COORDINATOR": f"127.0.0.1:{port}",
        "SADIST_PROCESSES": "2",
    }
    begun = time.monotonic()
    both = [
        subprocess.Popen(
            [sys.executable, __file__, scenario, str(out)],
            env={**environment, "SADIST_PROCESS": str(process)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for process in range(2)
    ]
    try:
        outputs = [process.communicate(timeout=120)[0] for process in both]
    finally:
        for process in both:
            process.kill()
            process.communicate()
    files = [out / f"results-{process}.json" for process in range(2)]
    assert all(file.exists() for file in files), "\n".join(outputs)
    return [json.loads(file.read_text()) for file in files], time.monotonic() - begun


@pytest.mark.processes
def test_hosts_agree_on_the_step_to_restore(tmp_path):
    (first, second), _ = run("together", tmp_path / "out")
    for found in (first, second):
        assert (found["newest"], found["before"], found["same bits"]) == (4, 2, True)
    assert [first["seen"], second["seen"]] == [[["4", n, 2], ["2", n, 2]] for n in (0, 1)]
    assert "can be read (step 2: another host's log says why)" in first["none"][0]
    assert "can be read (step 2: a bit)" in second["none"][0]
    assert len(list((tmp_path / "out" / "broken").glob("4-*"))) == 1


@pytest.mark.processes
@pytest.mark.parametrize("scenario", ["failing_at_the_start", "failing_in_the_background"])
def test_both_hosts_say_what_one_cannot_save(tmp_path, scenario):
    (first, second), seconds = run(scenario, tmp_path / "out")
    ((found, waited),), ((told, waited_too),) = first.values(), second.values()
    assert "No space left on device" in found
    assert "its log says why" in told or "another host's log says why" in told
    assert max(waited, waited_too) < 10
    assert seconds < 60
    assert {path.name for path in (tmp_path / "out" / "checkpoints").iterdir()} >= {"2"}
    assert not (tmp_path / "out" / "checkpoints" / "4").exists()


if __name__ == "__main__":
    main(*sys.argv[1:])
