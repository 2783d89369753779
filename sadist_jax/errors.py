"""How a job ends when neither done nor a bug: each of these carries a sentence for people and the exit code.

What ends a run other than by the command line tells the code with `note_exit` first.
"""

import os
from pathlib import Path


class BadInput(ValueError):
    """One clear sentence that names the file or option and the remedy; the command line prints it."""

    exit_code = 2


class ClusterProblem(RuntimeError):
    """The machines, not the input: a host that cannot be reached, hosts that differ, a peer that was lost."""

    exit_code = 3


class Preempted(Exception):
    """Asked to stop (SIGTERM), and everything is saved: the same command goes on. The code is sysexits' EX_TEMPFAIL."""

    exit_code = 75


HANG = 70  # the watchdog's exit code, when no step ended for too long; sysexits' EX_SOFTWARE
CODES = "SADIST_CODES"


def note_exit(code: int) -> None:
    """Write the exit code where a launcher reads it that is told no process's own: into the folder SADIST_CODES.

    One file a process, named by its number in Slurm. The first code counts: what ends a process that is about to end
    anyway is no news. A file that stays empty is of a process that was killed.
    """
    if not (folder := os.environ.get(CODES)):
        return
    try:
        with Path(folder, os.environ.get("SLURM_PROCID", str(os.getpid()))).open("a") as file:
            if file.tell() == 0:
                print(code, file=file)
    except OSError as error:
        os.write(2, f"sadist: the exit code {code} cannot be noted in {folder} ({error.strerror})\n".encode())
