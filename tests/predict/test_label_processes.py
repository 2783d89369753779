"""Killed at random, three times, and gone on with: the labels are those of a run that nobody broke."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

COUNT = 200
GRID = ("--grid.points-per-side", "2", "--grid.pred-iou-thresh", "0.1", "--grid.stability-score-thresh", "0.1")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Boxes on a gradient, so that there are masks."""
    folder, rng = tmp_path_factory.mktemp("label") / "photos", np.random.default_rng(0)
    folder.mkdir()
    for i in range(COUNT):
        picture = np.repeat(np.linspace(0, 80, 96)[None, :, None], 64, 0).repeat(3, 2)
        y, x = rng.integers(0, 40, 2)
        picture[y : y + 24, x : x + 40] = rng.integers(100, 256, 3)
        Image.fromarray(picture.astype(np.uint8)).save(folder / f"{i:03}.png")
    return folder


def start(photos, out, process, processes):
    command = [sys.executable, "-m", "sadist_jax", "label", photos, "--out", out, "--form", "coco", *GRID]
    command += ["--process", process, "--processes", processes]
    return subprocess.Popen([str(part) for part in command], stdout=subprocess.DEVNULL, start_new_session=True)


def done(out):
    return len(list((out / "pictures").glob("*.json"))) if out.exists() else 0


@pytest.mark.processes
def test_killed_three_times_and_gone_on_with(photos, tmp_path):
    out, whole = tmp_path / "broken", tmp_path / "whole"
    for _ in range(3):
        before, running = done(out), [start(photos, out, i, 2) for i in range(2)]
        limit = time.monotonic() + 240
        while done(out) < before + 30:
            assert time.monotonic() < limit, "no picture was labelled"
            time.sleep(0.05)
        for process in running:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        assert 0 < done(out) < COUNT
    written = {path.name: path.stat().st_mtime_ns for path in (out / "pictures").glob("*.json")}
    assert [process.wait(240) for process in [start(photos, out, i, 2) for i in range(2)]] == [0, 0]
    assert {name: (out / "pictures" / name).stat().st_mtime_ns for name in written} == written  # none was done again
    assert start(photos, whole, 0, 1).wait(400) == 0
    found, expected = ((folder / "instances.json").read_bytes() for folder in (out, whole))
    assert found == expected
    assert found.count(b'"segmentation"') > COUNT / 2
