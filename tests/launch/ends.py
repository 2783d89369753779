"""A stand-in for `python -m sadist_jax`: each process ends as the test says, and notes what it was given.

ends.py FOLDER PLAN ...: PLAN is "CODES;CODES;...", one for each start, CODES one for each process: a number is an
exit code, "kill" dies by SIGKILL, "abort" by SIGABRT, "wait" ends with 75 on SIGTERM, "deaf" never ends by itself.
"""

import os
import signal
import sys
import time
from pathlib import Path


def main(folder: str, plan: str, *_: str) -> None:
    process, processes = int(os.environ["SADIST_PROCESS"]), int(os.environ["SADIST_PROCESSES"])
    logs = [Path(folder, f"starts-{i}") for i in range(processes)]
    start = lines(logs[process])
    what = plan.split(";")[start].split(",")[process]
    if what in ("wait", "deaf"):
        signal.signal(signal.SIGTERM, (lambda *_: sys.exit(75)) if what == "wait" else signal.SIG_IGN)
    with logs[process].open("a") as file:
        print(os.environ["SADIST_COORDINATOR"], processes, file=file)
    print(f"process {process} does {what}", flush=True)
    if what in ("wait", "deaf"):
        time.sleep(60)
    while not all(lines(log) > start for log in logs):  # nobody is ended before the others have begun
        time.sleep(0.01)
    if what in ("kill", "abort"):
        os.kill(os.getpid(), signal.SIGKILL if what == "kill" else signal.SIGABRT)
    sys.exit(int(what))


def lines(log: Path) -> int:
    return log.read_text().count("\n") if log.exists() else 0


main(*sys.argv[1:])
