"""A stand-in for `python -m sadist_jax`: each process ends as the test says, and notes what it was given.

ends.py FOLDER PLAN ...: PLAN is "CODES;CODES;...", one for each start, CODES one for each process: a number is an
exit code, "kill" dies by SIGKILL, "abort" by SIGABRT, "wait" ends with 75 on SIGTERM, "deaf" never ends by itself,
"unready" neither, nor does it listen for signals yet; "save" takes a while for it after SIGTERM, as a run does
(train/stop.py), and notes it in saved-PROCESS; "fail" ends with 1 then, a little earlier.
"""

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path


def main(folder: str, plan: str, *_: str) -> None:
    process, processes = int(os.environ["SADIST_PROCESS"]), int(os.environ["SADIST_PROCESSES"])
    logs = [Path(folder, f"starts-{i}") for i in range(processes)]
    start = lines(logs[process])
    what = plan.split(";")[start].split(",")[process]
    handlers = {"wait": lambda *_: sys.exit(75), "deaf": signal.SIG_IGN, "fail": fail}
    if what in handlers:
        signal.signal(signal.SIGTERM, handlers[what])
    Path(folder, f"pid-{process}").write_text(str(os.getpid()))
    if what == "save":
        save(Path(folder, f"saved-{process}"), lambda: note(logs[process], processes))
    note(logs[process], processes)
    print(f"process {process} does {what}", flush=True)
    if what in ("wait", "deaf", "unready", "fail"):
        time.sleep(60)
    while not all(lines(log) > start for log in logs):  # nobody is ended before the others have begun
        time.sleep(0.01)
    if what in ("kill", "abort"):
        os.kill(os.getpid(), signal.SIGKILL if what == "kill" else signal.SIGABRT)
    sys.exit(int(what))


def fail(*_: object) -> None:
    time.sleep(1.5)
    sys.exit(1)


def save(file: Path, listening: Callable[[], None]) -> None:
    from sadist_jax.train.stop import Stop

    end = time.monotonic() + 60
    with Stop() as stop:
        listening()
        while not stop.asked and time.monotonic() < end:
            time.sleep(0.01)
        time.sleep(1.5)
        file.touch()
        sys.exit(75)


def note(log: Path, processes: int) -> None:
    """That this start has begun, and listens."""
    with log.open("a") as file:
        print(os.environ["SADIST_COORDINATOR"], processes, file=file)


def lines(log: Path) -> int:
    return log.read_text().count("\n") if log.exists() else 0


main(*sys.argv[1:])
