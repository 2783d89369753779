import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from sadist_jax.data import workers as loaders
from tests.data.made import grey_folder

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path):
    grey_folder(tmp_path / "grey", 10)
    return tmp_path / "grey"


def test_batches_of_a_run_that_was_killed_whole_are_removed_by_the_next(tmp_path, monkeypatch):
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    (tmp_path / f"sadist-{int(gone.stdout)}-x").mkdir()
    (tmp_path / f"sadist-{os.getpid()}-y").mkdir()
    monkeypatch.setattr(loaders, "_SHARED_MEMORY", str(tmp_path))
    new = Path(loaders._make_folder(1))
    assert set(tmp_path.iterdir()) == {tmp_path / f"sadist-{os.getpid()}-y", new}
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "disk"))
    (tmp_path / "disk").mkdir()
    assert Path(loaders._make_folder(2**62)).parent == tmp_path / "disk"  # too large for the shared memory


SCRIPT = """
import multiprocessing, sys
from sadist_jax.data import pipeline
from sadist_jax.data.folder import Folder
from sadist_jax.data.sami_crops import SamiCrops
if __name__ == "__main__":
    stream = pipeline.batches(Folder(sys.argv[1]).open(), SamiCrops(4), seed=0, global_batch=2, workers=1)
    next(stream)
    print(*[child.pid for child in multiprocessing.active_children()], flush=True)
    for line in sys.stdin:
        for _ in range(10):
            batch = next(stream)
        print(batch["index"][0], flush=True)
"""


@pytest.mark.processes
def test_workers_outlive_sigterm_but_not_their_parent(folder, tmp_path):
    (tmp_path / "run.py").write_text(SCRIPT)
    command = [sys.executable, str(tmp_path / "run.py"), str(folder)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, **pipes) as run:
        (worker,) = map(int, run.stdout.readline().split())
        os.kill(worker, signal.SIGTERM)
        os.kill(worker, signal.SIGINT)
        run.stdin.write("\n")
        run.stdin.flush()
        assert run.stdout.readline().strip() == "20"  # ten batches of two further
        run.kill()
    deadline = time.monotonic() + 120
    while alive(worker) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(worker)
    assert not left_over(run.pid)


FROM_BIRTH = """
import signal, sys
from sadist_jax.data import pipeline
from sadist_jax.data.folder import Folder
from sadist_jax.data.sami_crops import SamiCrops
if __name__ == "__main__":
    heard = []
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, lambda number, frame: heard.append(number))
    stream = pipeline.batches(Folder(sys.argv[1]).open(), SamiCrops(4), seed=0, global_batch=2, workers=2)
    print("ready", flush=True)
    indices = [int(next(stream)["index"][0]) for _ in range(4)]
    print(*indices, len(set(heard)), flush=True)
"""


@pytest.mark.processes
def test_workers_outlive_signals_to_their_group_from_birth_on(folder, tmp_path):
    """SIGTERM and SIGINT every 20 ms, from before the workers are born until the fourth batch; their parent hears."""
    (tmp_path / "run.py").write_text(FROM_BIRTH)
    command = [sys.executable, str(tmp_path / "run.py"), str(folder)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
    with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, **pipes) as run:
        try:
            assert run.stdout.readline() == "ready\n"
            while not select.select([run.stdout], [], [], 0.02)[0]:
                os.killpg(run.pid, signal.SIGTERM)
                os.killpg(run.pid, signal.SIGINT)
            assert run.stdout.readline() == "0 2 4 6 2\n", run.communicate()[1]
        finally:
            run.kill()


def left_over(pid):
    """Batches that nobody will read."""
    return [f for base in ("/dev/shm", tempfile.gettempdir()) for f in Path(base).glob(f"sadist-{pid}-*")]


def alive(pid):
    """Whether the process still runs; one that ended and waits to be reaped does not."""
    stat = Path(f"/proc/{pid}/stat")
    try:
        return stat.read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
