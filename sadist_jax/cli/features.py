"""Compute the teacher's features of a run's data once, for training without the teacher.

    sadist features sami_ti:full1024 --out features/imagenet    the same again goes on after an interruption
    sadist features CONFIG --out DIR --process 3 --processes 8           a share of the shards, on another machine

It prints the cache's digest, which training asks for: configs/sami_ti_cached.py. Of a WeSAM run it keeps what the
anchor's encoder makes of each picture's four flips: WithFeatures as source, and WeakFrames' `anchor`, bring it back.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from sadist_jax.cli._share import share
from sadist_jax.errors import BadInput
from sadist_jax.train import config


@dataclasses.dataclass(frozen=True)
class Options:
    """The teacher, the data and the view are the config's."""

    config: Annotated[str, tyro.conf.Positional]
    """config of a run, whose teacher or anchor it is: sami_ti:full1024, sami_ti:fixed224, wesam_coco and its like"""
    out: Path
    """folder of the cache"""
    root: str | None = None
    """folder of pictures instead of the config's data"""
    weights: str | None = None
    """file of the teacher's weights instead of the config's"""
    batch: int = 8
    """pictures at a time"""
    shards: int = 0
    """files to write; 0: one for every 1024 pictures"""
    process: int | None = None
    """which of `processes` this is, from 0; else SADIST_PROCESS, or what Slurm's srun says"""
    processes: int | None = None
    """how many share the work; else SADIST_PROCESSES, or what Slurm's srun says"""


def main(argv: Sequence[str]) -> int:
    """`argv`: the config, then options. Returns the exit code."""
    options = tyro.cli(Options, args=list(argv), prog="sadist features", description=__doc__)
    process, processes = share(options.process, options.processes)
    if options.batch < 1 or options.shards < 0:
        raise BadInput("--batch must be 1 or more, --shards 0 or more")
    from sadist_jax.data.folder import Folder
    from sadist_jax.train import features
    from sadist_jax.train.start import Start

    run, _, _ = config.make_run(options.config)
    if options.root is not None:
        run = dataclasses.replace(run, data=dataclasses.replace(run.data, source=Folder(options.root)))
    if options.weights is not None:
        start = Start(rf"{features.kept_of(run).place}\.(.*)", options.weights)
        run = dataclasses.replace(run, starts=(*run.starts, start))
    manifest = features.write(
        run, options.out, batch=options.batch, shards=options.shards, process=process, processes=processes
    )  # fmt: skip
    total = manifest.samples * manifest.nbytes / 1e9
    print(f"{options.out}: {manifest.samples} samples of {manifest.nbytes:,} bytes, {total:,.1f} GB when complete")
    print(f"digest {manifest.digest}")
    return 0
