"""`sadist launch local`: the processes of a run on this machine, all started again when one of them is lost."""

import dataclasses
import math
import os
import shlex
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from sadist_jax.cli._launch_ranks import INTERRUPTED, Rank, Ranks, exit_code, show
from sadist_jax.cli._launch_template import out_of, shell
from sadist_jax.errors import BadInput, Preempted

PROGRESS = 3600.0  # seconds; after so long, earlier restarts count no more
_POLL = 0.1
_SAME = 1.0  # seconds, as in train/stop.py
_LONGEST_PAUSE = 60.0
_FINAL = (0, BadInput.exit_code, INTERRUPTED)  # exit codes after which nothing starts again


@dataclasses.dataclass(frozen=True)
class Options:
    """Several processes on this machine, as one run.

    The output of process i is in LOGS/rank-i.log, that of process 0 is shown as well. SIGTERM and Ctrl-C go on to all
    of them, a second one ends them at once; a terminal that closes is a SIGTERM, unless nohup keeps it off. When one
    is lost, the others are ended and all start again.
    """

    processes: int
    """how many"""
    devices_per_process: int | None = None
    """CPU devices that each process simulates"""
    gpus_per_process: int | None = None
    """GPUs of its own for each process, in their order; else every process sees all"""
    max_restarts: int = 3
    """starts after a process was lost; an hour of running counts as progress and starts anew"""
    grace: float = 10.0
    """seconds that the others have to end by themselves when one was lost"""
    logs: Path | None = None
    """folder of the processes' output; OUT/logs, or runs/CONFIG/logs where the job has no --out"""
    host: str = "127.0.0.1"
    """address of process 0, which the others connect to"""
    prefix: str = ""
    """words before the command of each process, {process} being its number: "numactl --cpunodebind={process}" """
    dry_run: bool = False
    """print what would be started"""


def launch(options: Options, job: Sequence[str]) -> int:
    """Run the job; returns its exit code: that of its processes, or 3 where one was lost too often."""
    _check(options)
    if options.dry_run:
        for rank in ranks(options, job, port=0):
            print(shell([f"{name}={value}" for name, value in rank.environment.items()]), shell(rank.command))
        return 0
    logs = options.logs or default_logs(job)
    try:
        logs.mkdir(parents=True, exist_ok=True)
        (logs / "rank-0.log").touch()  # a folder that is there need not be one to write in
    except OSError as error:
        raise BadInput(f"--logs {logs} cannot be written ({error.strerror}); choose another folder") from None
    show(f"{options.processes} processes, their output in {logs}\n")
    return supervise(lambda: Ranks(ranks(options, job, _free_port()), logs), options.max_restarts, options.grace)


def ranks(options: Options, job: Sequence[str], port: int) -> list[Rank]:
    """What each process runs, and with what in its environment."""
    shared = {
        "SADIST_COORDINATOR": f"{options.host}:{port}",
        "SADIST_PROCESSES": str(options.processes),
        "SADIST_HOSTS": "",  # auto would have JAX look for other hosts than these
        "SLURM_NTASKS": "1",  # of a batch job that this may be in: these processes are not its tasks
        "SLURM_STEP_NUM_TASKS": "1",
        "PYTHONUNBUFFERED": "1",
    }
    if options.devices_per_process is not None:
        flags = (
            f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={options.devices_per_process}"
        )
        shared |= {"XLA_FLAGS": flags.strip(), "JAX_PLATFORMS": "cpu"}
    each = options.gpus_per_process or 0
    gpus = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    visible = gpus.split(",") if gpus else [str(i) for i in range(options.processes * each)]
    if len(visible) < options.processes * each:
        raise BadInput(
            f"CUDA_VISIBLE_DEVICES names {len(visible)} GPUs, fewer than {options.processes} processes of {each} need; "
            "start fewer, or let it name more"
        )
    found = []
    for process in range(options.processes):
        own = {"SADIST_PROCESS": str(process)}
        if each:
            own["CUDA_VISIBLE_DEVICES"] = ",".join(visible[process * each : (process + 1) * each])
        found.append(Rank([*_prefix(options, process), sys.executable, "-m", "sadist_jax", *job], {**shared, **own}))
    return found


def _prefix(options: Options, process: int) -> list[str]:
    try:
        return shlex.split(options.prefix.replace("{process}", str(process)))
    except ValueError as error:
        raise BadInput(
            f"--prefix {options.prefix} is no command ({error}); close its quotes, and put all of it in others"
        ) from None


def default_logs(job: Sequence[str]) -> Path:
    """`logs` in the folder that the job writes to."""
    if (out := out_of(job)) is not None:
        return Path(out, "logs")
    name = Path(job[1]).stem if len(job) > 1 else job[0]
    return Path("runs", name.partition(":")[0], "logs")


class Asked:
    """SIGTERM and SIGINT to this process, counted from construction to `close`; SIGHUP counts as SIGTERM.

    Within a second another one is the same, come by another way: a terminal that closes sends SIGHUP up to three times.

    Handlers of its own, not those of Python: a shell starts what stands before `&` with SIGINT ignored, and a child
    inherits what is ignored, but not what is handled.
    """

    def __init__(self):
        self.count, self.first, self._last = 0, 0, -math.inf
        numbers = [signal.SIGTERM, signal.SIGINT]
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # nohup ignores it, to outlive the terminal
            numbers.append(signal.SIGHUP)
        self._before = {number: signal.signal(number, self._take) for number in numbers}

    def _take(self, number: int, _frame: object) -> None:
        now = time.monotonic()
        if now - self._last < _SAME:
            return
        self._last = now
        self.count += 1
        self.first = self.first or (signal.SIGTERM if number == signal.SIGHUP else number)

    def close(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


def supervise(start: Callable[[], Ranks], max_restarts: int, grace: float) -> int:
    """Start ranks until they have ended as they should, or too many times; returns the exit code for all."""
    asked, restarts = Asked(), 0
    try:
        while True:
            begin = time.monotonic()
            code = _one_start(start(), asked, grace)
            if code in _FINAL:
                return code
            if asked.count:
                return code if asked.first == signal.SIGTERM else INTERRUPTED
            if time.monotonic() - begin > PROGRESS:
                restarts = 0
            if code == Preempted.exit_code:  # one of them was asked to, and not this process: that is no failure
                pause, why = 1.0, "asked to stop, and saved"
            elif restarts < max_restarts:
                restarts += 1
                pause = min(2.0 ** (restarts - 1), _LONGEST_PAUSE)
                why = f"exit code {code}, restart {restarts} of {max_restarts}"
            else:
                show(f"ended with exit code {code} after {restarts} restarts\n")
                return code
            show(f"{why}: all processes start again in {pause:g} s\n")
            if _pause(pause, asked):
                return INTERRUPTED if asked.first == signal.SIGINT else Preempted.exit_code
    finally:
        asked.close()


def _one_start(ranks: Ranks, asked: Asked, grace: float) -> int:
    """Follow the ranks to their end; returns the exit code for all."""
    passed_on, deadline = 0, None
    try:
        while ranks.poll():
            if asked.count > passed_on:
                ranks.signal(asked.first) if not passed_on and asked.count == 1 else ranks.kill()
                passed_on = asked.count
            failed = ranks.failed()
            if failed is not None and deadline is None:
                deadline = time.monotonic() + grace
                if not passed_on:  # a second one would end those that save
                    ranks.signal(signal.SIGTERM)
            if deadline is not None and time.monotonic() > deadline:
                ranks.kill()
            time.sleep(_POLL)
        failed = ranks.failed()
        if failed is not None:
            show(f"{ranks.last_words(failed)}\n")
        return exit_code(ranks.ended)
    finally:
        ranks.close()


def _pause(seconds: float, asked: Asked) -> bool:
    """Whether a signal came while waiting."""
    end = time.monotonic() + seconds
    while not asked.count and time.monotonic() < end:
        time.sleep(_POLL)
    return asked.count > 0


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("", 0))
        return free.getsockname()[1]


def _check(options: Options) -> None:
    if options.processes < 1 or options.max_restarts < 0 or options.grace < 0:
        raise BadInput("--processes must be 1 or more, --max-restarts and --grace 0 or more")
    for name in ("devices_per_process", "gpus_per_process"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise BadInput(f"--{name.replace('_', '-')} must be 1 or more")
    if options.devices_per_process is not None and options.gpus_per_process is not None:
        raise BadInput("--devices-per-process simulates devices of the CPU, so --gpus-per-process is not for it")
    _prefix(options, 0)  # before anything is made
