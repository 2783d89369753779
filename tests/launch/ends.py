"""A stand-in for `python -m sadist_jax`: each process ends as the test says, and notes what it was given.

    ends.py FOLDER PLAN ...: PLAN is "CODES;CODES;...", one for each start, CODES one for each process: a number is an exit
    code, "kill" dies by SIGKILL, "abort" by SIGABRT, "wait" ends with 75 on SIGTERM, "deaf" never ends by itself.
"""

import os
import signal
import sys
import time
from pathlib import Path


def main(folder: str, plan: str, *_: str) -> None:
    process = int(os.environ["SADIST_PROCESS"])
    log = Path(folder, f"starts-{process}")
    start = len(log.read_text().splitlines()) if log.exists() else 0
    with log.open("a") as file:
        print(os.environ["SADIST_COORDINATOR"], os.environ["SADIST_PROCESSES"], file=file)
    what = plan.split(";")[start].split(",")[process]
    print(f"process {process} does {what}", flush=True)
    if what == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "abort":
        os.abort()
    if what in ("wait", "deaf"):
        signal.signal(signal.SIGTERM, (lambda *_: sys.exit(75)) if what == "wait" else signal.SIG_IGN)
        Path(folder, f"ready-{process}").touch()
        time.sleep(60)
    sys.exit(int(what))


main(*sys.argv[1:])
