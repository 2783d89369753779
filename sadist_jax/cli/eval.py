"""Score checkpoints on a data set as the papers do: a table, numbers as JSON, and a page with good and bad cases.

    sadist eval prompts --out scores data:coco-instances --data.json instances_val2017.json --data.images-root val2017
    sadist eval prompts --out scores --checkpoint sam=sam_vit_b_01ec64.pth --checkpoint mine=student.pth data:sa1b ...
    sadist eval edges --out scores --images BSDS500/data/images/test --ground-truth BSDS500/data/groundTruth/test

`sadist eval prompts --help` shows the options of a protocol, those of the data come last. The same again goes on after
an interruption; --process 3 --processes 8 scores a share, and the last one to end writes the table.
"""

from collections.abc import Sequence
from typing import Annotated, Any

import tyro

from sadist_jax.cli._eval_maps import Classes, Maps
from sadist_jax.cli._eval_prompted import Edges, Instances, Prompts, Proposals
from sadist_jax.cli._share import share
from sadist_jax.cli._terminal import say
from sadist_jax.train.stop import Stop

Job = (
    Annotated[Prompts, tyro.conf.subcommand("prompts")]
    | Annotated[Instances, tyro.conf.subcommand("instances")]
    | Annotated[Proposals, tyro.conf.subcommand("proposals")]
    | Annotated[Edges, tyro.conf.subcommand("edges")]
    | Annotated[Maps, tyro.conf.subcommand("maps")]
    | Annotated[Classes, tyro.conf.subcommand("classes")]
)


def main(argv: Sequence[str]) -> int:
    """`argv`: the protocol, its options, the data. Returns the exit code."""
    job: Any = tyro.cli(Job, args=list(argv), prog="sadist eval", description=__doc__)  # type: ignore[arg-type]
    job.check()
    with Stop() as stop:
        return _score(job, argv, share(job.process, job.processes), stop)


def _score(job: Any, argv: Sequence[str], part: tuple[int, int], stop: Stop) -> int:
    from sadist_jax.parallel import devices

    names, reader = job.contenders(), job.source().open()
    devices.every()
    contenders = {name: job.open(who) for name, who in names.items()}
    scorings = {name: job.scoring(name, contender, reader) for name, contender in contenders.items()}
    for name, scoring in scorings.items():
        scoring.run(stop.before_each(contenders[name].answer), *part, say)
    if missing := sum(scoring.missing() for scoring in scorings.values()):
        say(f"{job.out}: the table is written when all images are scored; {missing} scores are missing")
        return 0
    from sadist_jax.cli import _eval_report

    say(_eval_report.write(job, argv, reader, scorings, contenders))
    say(f"written: {job.out / _eval_report.PAGE}")
    return 0
