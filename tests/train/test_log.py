import json

import jax.numpy as jnp
import numpy as np
import pytest

from sadist_jax.errors import BadInput
from sadist_jax.train.log import Lines, Log, LogSpec
from sadist_jax.train.metrics import Meter


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("tail", ["", '{"step": 4, "lo', '{"step": 3, "loss": 9}', "garbage\n"])
def test_resuming_leaves_each_step_once(tmp_path, tail):
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps({"step": s, "loss": s / 2}) + "\n" for s in (1, 2, 3)) + tail)
    file = Lines(path, 2)
    file.write({"step": 3, "loss": 7})
    file.close()
    assert lines(path) == [{"step": 1, "loss": 0.5}, {"step": 2, "loss": 1.0}, {"step": 3, "loss": 7}]


def test_evals_that_are_owed_are_dropped_and_other_lines_of_the_step_stay(tmp_path):
    for step in (2, 3):  # killed after it has logged the evals that it owed
        log = Log(tmp_path, LogSpec(), start=step, steps=9, batch=4, owed=step == 3)
        if step == 2:
            log.write(2, {"look/far": 0.1})
            log.train(3, {"loss": 0.5})
            log.write(3, {"look/far": 0.2})
        log.close()
    found = [{k: v for k, v in line.items() if k != "samples_per_second"} for line in lines(tmp_path / "metrics.jsonl")]
    assert found == [{"step": 2, "look/far": 0.1}, {"step": 3, "loss": 0.5}]


@pytest.mark.parametrize("hosts", [1, 2, 3])
def test_samples_of_hosts_that_are_gone_are_truncated_by_process_0_alone(tmp_path, hosts):
    """Killed after step 8 with three hosts, goes on after step 5; hosts that are still there see to their own file."""
    names = ["samples.jsonl", "samples-1.jsonl", "samples-2.jsonl"]
    for name in names:
        (tmp_path / name).write_text("".join(json.dumps({"step": s, "index": [s]}) + "\n" for s in range(1, 9)))
    for process in range(hosts):
        log = Log(tmp_path, LogSpec(samples=True), start=5, steps=9, batch=4, process=process, processes=hosts)
        log.close()
        gone = [len(lines(tmp_path / name)) for name in names[hosts:]]
        assert gone == [5] * (3 - hosts)
        assert [len(lines(tmp_path / name)) for name in names[:hosts]] == [
            5 if i <= process else 8 for i in range(hosts)
        ]


def test_a_line_without_its_end_is_completed(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}')
    file = Lines(path, 5)
    file.write({"step": 2})
    file.close()
    assert [line["step"] for line in lines(path)] == [1, 2]


def test_only_process_0_writes_metrics(tmp_path, capsys):
    for process in (0, 1):
        log = Log(tmp_path, LogSpec(samples=True), start=0, steps=9, batch=4, process=process)
        log.samples(1, np.array([process, 2]))
        log.train(1, {"loss": 0.5, "empty": None, "samples": "00ff"})
        log.close()
    (line,) = lines(tmp_path / "metrics.jsonl")
    assert {k: line[k] for k in ("step", "loss", "empty", "samples")} == {"step": 1, "loss": 0.5, "empty": None, "samples": "00ff"}  # fmt: skip # noqa: E501
    assert lines(tmp_path / "samples.jsonl") == [{"step": 1, "index": [0, 2]}]
    assert lines(tmp_path / "samples-1.jsonl") == [{"step": 1, "index": [1, 2]}]
    out = capsys.readouterr().out
    assert out.startswith("step 1/9  loss 0.5  samples_per_second")
    assert out.count("\n") == 1


def test_tensorboard_is_asked_for_by_name(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "tensorboardX", None)
    with pytest.raises(BadInput, match=r"pip install sadist_jax\[tb\]"):
        Log(tmp_path, LogSpec(tensorboard=True), start=0, steps=9, batch=4)


def step_metrics(loss, weight=1.0, skipped=0.0):
    return {
        "loss": (jnp.float32(loss * weight), jnp.float32(weight)),
        "skipped": (jnp.float32(skipped), jnp.float32(1)),
    }


def test_a_line_is_the_weighted_mean_and_comes_one_step_late():
    meter = Meter(2)
    ids = np.arange(4)
    assert meter.push(1, step_metrics(1.0, 1.0), ids) is None
    assert meter.push(2, step_metrics(4.0, 3.0), ids) is None
    step, line = meter.push(3, step_metrics(5.0), ids)
    assert (step, line["loss"], line["skipped"]) == (2, 13 / 4, 0)
    assert meter.read() is None
    assert meter.read(last=True) is None  # nothing is outstanding
    meter.push(4, step_metrics(7.0), ids)
    assert meter.read()[1]["loss"] == 6.0


def test_its_state_continues_the_line():
    whole, halves = Meter(3), Meter(3)
    for step in (1, 2, 3):
        whole.push(step, step_metrics(0.1 * step), np.arange(step))
        halves.push(step, step_metrics(0.1 * step), np.arange(step))
        if step == 2:
            halves.read()
            halves = Meter(3, json.loads(json.dumps(halves.state())))
    assert whole.read() == halves.read()


def test_skipped_steps_are_counted_in_a_row():
    meter = Meter(100)
    counts = []
    for step, skipped in enumerate([1, 1, 0, 1, 1, 1], start=1):
        meter.push(step, step_metrics(0.0, 0.0, skipped), np.arange(1))
        meter.read()
        counts.append(meter.skipped_in_a_row)
    assert counts == [1, 2, 0, 1, 2, 3]
    meter.push(7, step_metrics(0.0, 0.0, 1), np.arange(1))
    assert meter.read(last=True)[1]["loss"] is None
