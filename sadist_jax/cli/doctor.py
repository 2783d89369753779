"""Look whether this machine, or all hosts of a job, can do a run: devices, network, disk, data.

    sadist doctor                       devices, versions, compilation cache; several hosts: network, same code, clocks
    sadist doctor CONFIG [options]      also the run's directory, free space and data; options as of `sadist train`
    sadist launch ... -- doctor CONFIG  on every host, started as the job will be; process 0 reports for all

Nothing is trained and nothing stays on disk. Exit codes: 0 all is well (there may be warnings), 2 something is wrong
with the devices, the config, its directory or data, 3 something between the hosts.
"""

import json
import platform
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sadist_jax.cli._terminal import say
from sadist_jax.errors import BadInput, ClusterProblem

if TYPE_CHECKING:
    from sadist_jax.train.run import Run


def main(argv: Sequence[str]) -> int:
    """`argv`: nothing, or the config and options. Returns the exit code."""
    if argv and argv[0] in ("-h", "--help"):
        print(f"usage: sadist doctor [CONFIG [options]]\n\n{__doc__}")
        return 0
    run = _run(argv)
    from sadist_jax.cli import _doctor_checks as checks  # JAX, which --help can do without
    from sadist_jax.cli import _doctor_report as report
    from sadist_jax.cli import _doctor_together as together
    from sadist_jax.parallel import agreement, hosts, preflight

    begun, check = time.perf_counter(), "coordinator"
    try:
        hosts.start(hosts.HostSpec() if run is None else run.hosts)
        check = "devices"  # without which nothing else can be looked at
        agreement.check_devices()
    except (BadInput, ClusterProblem) as problem:
        say(report.row("failed", check, str(problem)))
        hosts.leave(problem.exit_code)
        return problem.exit_code
    found = []
    if hosts.count() > 1:
        sentence = f"{hosts.count()} processes connected in {time.perf_counter() - begun:.1f} s"
        found.append(checks.Finding("coordinator", "ok", sentence))
    found += checks.of_machine() + ([] if run is None else checks.of_run(run))
    with together.within(preflight.patience()):
        found += together.of_run(run, found) + together.of_machines()
        texts = hosts.gather_text(json.dumps([platform.node(), found]))
    everybody = [(host, [checks.Finding(*finding) for finding in theirs]) for host, theirs in map(json.loads, texts)]
    if hosts.index() == 0:
        for line in report.lines(everybody):
            say(line)
    return report.exit_code(finding for _, theirs in everybody for finding in theirs)


def _run(argv: Sequence[str]) -> "Run | None":
    """The run of a config with the options of the command line."""
    if not argv:
        return None
    if argv[0].startswith("-"):
        raise BadInput(f"{argv[0]} stands where `sadist doctor` takes the config; name that first, then its options")
    import tyro

    from sadist_jax.train import config
    from sadist_jax.train.run import Run

    run, module, path = config.make_run(argv[0])
    return tyro.cli(
        Run,
        args=list(argv[1:]),
        default=run,
        prog=f"sadist doctor {path}",
        description=module.__doc__ or "",
        config=(tyro.conf.AvoidSubcommands,),
    )
