"""How a job ends when neither done nor a bug: each of these carries a sentence for people and the exit code."""


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
