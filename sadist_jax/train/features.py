"""Compute a teacher's features once: what a run's teacher, or its anchor, would see of each sample, in shards on disk.

A ViT-H at 1024 px is 99.5 % of an online step of SAMI-Ti (5961 of 5988 GFLOP, a formula); cached, a step costs 26.8
GFLOP, 224 times less. An image takes 2 h w c bytes: 100 KB for 14 x 14 x 256, 2.1 MB for the whole image's 64 x 64 x
256, and four times that for the four weak views of WeSAM; a run that makes n samples a second reads n times that.
"""

import os
import re
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import ml_dtypes
import numpy as np

from sadist_jax import pretrained, tree
from sadist_jax.data.features import MANIFEST, Manifest, check_shard, differences, read_manifest, signature
from sadist_jax.data.sami_views import FixedCrops, FrameCrops
from sadist_jax.data.sample import Reader, Row, Unreadable
from sadist_jax.data.weak_frames import WeakFrames, WeakViews
from sadist_jax.errors import BadInput
from sadist_jax.methods.teacher import FlipFeatures, FrameFeatures, SamFeatures
from sadist_jax.methods.weak_lora import WeakLora
from sadist_jax.nn import table as leaves
from sadist_jax.parallel import devices
from sadist_jax.parallel import mesh as meshes
from sadist_jax.parallel import shard as cuts
from sadist_jax.parallel.mesh import MeshSpec
from sadist_jax.train import start, state
from sadist_jax.train.run import Run
from sadist_jax.train.stop import Stop
from sadist_jax.weights.digest import digest
from sadist_jax.weights.files import write_once

PER_SHARD = 1024  # samples; 100 MB or 2.1 GB
STALE = 3600  # seconds after which nobody writes a partial file any more


class Kept(NamedTuple):
    """What can be kept of a run.

    teacher: whose features. transform: how it sees a sample. place: what the names of its leaves in the run begin with.
    grid: the student's tokens along a side.
    """

    teacher: SamFeatures | FrameFeatures | FlipFeatures
    transform: FixedCrops | FrameCrops | WeakViews
    place: str
    grid: int


def write(
    run: Run, folder: Path, *, batch: int = 8, shards: int = 0, process: int = 0, processes: int = 1,
    say: Callable[[str], None] = print,
) -> Manifest:  # fmt: skip
    """Compute the features of a run's data; shards that are there already are left alone.

    Args:
      run: its method has a teacher of SAM features, and its transform a view that does not depend on chance; or it is
        WeakLora on WeakFrames, whose anchor has four views.
      folder: the cache.
      batch: samples at a time, a multiple of the number of devices.
      shards: 0: as many as are in the folder; in a new one, one for every PER_SHARD samples.
      process, processes: this process does every `processes`-th shard; they need not know each other.
    Raises:
      BadInput: the run's crops are random or do not fit its teacher, its teacher's weights come from no file, the
        folder holds other features, or more pictures than the run's max_bad_fraction cannot be read.
      Preempted: asked to stop; the shards that are done are kept.
    """
    kept = kept_of(run)
    table, whole = {kept.place: kept.teacher.table()}, tree.merge(*run.method.table().values())
    values = start.overlay(run.starts, whole, tree.flatten(table).keys())
    if missing := tree.flatten(table).keys() - values:
        raise BadInput(f"no start of {run.name} gives the teacher's weights ({min(missing)} and others); add one")
    reader = run.data.source.open()
    wanted = Manifest(
        teacher=pretrained.as_text(kept.teacher),
        weights=digest(values),
        view=kept.transform.view(),
        data=reader.digest(),
        samples=len(reader),
        shape=_shape(kept),
        shards=shards or _shards_of(folder) or max(1, -(-len(reader) // PER_SHARD)),
    )
    if not len(wanted.part(wanted.shards - 1)):
        raise BadInput(f"--shards {wanted.shards} leaves some without any of the {len(reader)} samples; name fewer")
    manifest = _agree(folder, wanted)
    with Stop() as stop:
        compute = stop.before_each(_computer(run, kept, table, values, batch))
        _write_share(folder, manifest, range(process, manifest.shards, processes), run, reader, compute, batch, say)
    return manifest


def _write_share(
    folder: Path, manifest: Manifest, share: range, run: Run, reader: Reader, compute: Callable[..., np.ndarray],
    batch: int, say: Callable[[str], None],
) -> None:  # fmt: skip
    """Write the shards that are not there. Raises BadInput when too many pictures cannot be read."""
    total, allowed = 0, run.data.max_bad_fraction
    for shard in share:
        path = folder / manifest.file(shard)
        if path.exists():
            check_shard(path, len(manifest.part(shard)))
            continue
        for left in folder.glob(f".{path.name}.*"):  # by a process that was killed; a live one writes all the time
            if time.time() - left.stat().st_mtime > STALE:
                left.unlink(missing_ok=True)
        bad = _write_shard(path, reader, kept_of(run).transform, manifest.part(shard), compute, batch)
        total += len(bad)
        if total > allowed * len(reader):
            path.unlink()
            raise BadInput(
                f"{total} pictures cannot be read, more than max_bad_fraction={allowed:g} of {len(reader)} allows; the "
                f"last: {bad[-1]}. Repair them, or raise the fraction, and run the same again"
            )
        left_out = f", {len(bad)} pictures could not be read, the first: {bad[0]}" if bad else ""
        say(f"{path.name}: {len(manifest.part(shard))} samples{left_out}")


def kept_of(run: Run) -> Kept:
    """Raises BadInput where nothing of the run can be kept."""
    teacher, transform = getattr(run.method, "teacher", None), run.data.transform
    for seen, crops in ((FrameFeatures, FrameCrops), (SamFeatures, FixedCrops)):
        if isinstance(teacher, seen) and isinstance(transform, crops):
            _check_sizes(run, teacher.encoder, transform)
            return Kept(teacher, transform, "teacher", run.method.grid)
    if isinstance(run.method, WeakLora) and isinstance(transform, WeakFrames):
        encoder, views = run.method.model.sam.image_encoder, WeakViews(transform.size)
        return Kept(FlipFeatures(encoder), views, "model", views.size // encoder.patch)
    raise BadInput(
        f"{run.name} has {type(teacher).__name__} as teacher and {type(transform).__name__} as crops; a cache holds "
        "FrameFeatures of FrameCrops (the teacher sees the whole image), SamFeatures of FixedCrops (always the same "
        "crop), or what the anchor of WeakLora makes of WeakFrames"
    )


def _check_sizes(run: Run, encoder: Any, transform: FixedCrops | FrameCrops) -> None:
    if isinstance(transform, FrameCrops):
        pairs = [("side", transform.side, encoder.image_size), ("patch", transform.patch, encoder.patch)]
    else:
        pairs = []
    for name, found, wanted in [*pairs, ("grid", transform.grid, run.method.grid)]:
        if found != wanted:
            raise BadInput(f"{type(transform).__name__} of {run.name} has {name} = {found}, but it must be {wanted}")


def _shards_of(folder: Path) -> int:
    """Of the cache in the folder; 0 without one."""
    return read_manifest(folder).shards if (folder / MANIFEST).exists() else 0


def _agree(folder: Path, wanted: Manifest) -> Manifest:
    """The folder's manifest, written if there is none. Raises BadInput where it is of something else."""
    write_once(folder / MANIFEST, wanted.text())  # where another process was first, it is compared with below
    found = read_manifest(folder)
    if lines := differences(found, wanted):
        raise BadInput(f"{folder} holds other features; choose another folder, or delete it:\n{lines}")
    return found


def _shape(kept: Kept) -> tuple[int, ...]:
    rows = {name: np.asarray(value)[None] for name, value in kept.transform.filler().items()}
    params = leaves.abstract(kept.teacher.table())
    return jax.eval_shape(lambda p, rows: kept.teacher.features(p, rows, kept.grid), params, rows).shape[1:]


def _computer(
    run: Run, kept: Kept, table: leaves.Table, values: dict[str, np.ndarray], batch: int
) -> Callable[[dict[str, np.ndarray]], np.ndarray]:
    """Function of a batch on this process's devices -> (batch, *shape of a record) bfloat16.

    The teacher is cut over the devices where it would fill more than half of one (MeshSpec), and lies rounded where the
    run has it so.
    """
    names = tree.flatten(table)
    rounded = [pattern for pattern in run.shard.rounded if any(re.fullmatch(pattern, name) for name in names)]
    teacher = state.abstract_frozen(table, rounded)
    mesh = meshes.make(MeshSpec(), devices.own(), held=cuts.held(run.shard, teacher))
    if batch % mesh.size:
        raise BadInput(f"--batch {batch} does not fit {mesh.size} devices; make it a multiple of {mesh.size}")
    shardings = cuts.shardings(run.shard, mesh, teacher)
    params = state.fill_frozen(table, values, jax.random.key(0), teacher, shardings)[kept.place]
    rows = cuts.rows(mesh)

    @jax.jit
    def features(params, batch):
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):  # each device has its own images
            return kept.teacher.features(params, batch, kept.grid).astype(ml_dtypes.bfloat16)

    return lambda batch: np.asarray(features(params, jax.device_put(batch, rows)))


def _write_shard(
    path: Path, reader: Reader, transform: Any, part: range, compute: Callable[..., np.ndarray], batch: int
) -> list[str]:
    """Write a shard, whole or not at all; returns what is wrong with each picture that could not be read."""
    from array_record.python.array_record_module import ArrayRecordWriter

    bad, partial = [], path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    writer = ArrayRecordWriter(str(partial), "group_size:1,uncompressed")
    try:
        for rows, marks in _batches(reader, transform, part, batch):
            features = compute(rows)
            for i, mark in enumerate(marks):
                writer.write(mark + _little_endian(features[i]) if isinstance(mark, bytes) else b"")
            bad += [mark for mark in marks if isinstance(mark, str)]
        writer.close()
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return bad


def _little_endian(features: np.ndarray) -> bytes:
    return features.view(np.uint16).astype("<u2").tobytes()


def _batches(
    reader: Reader, transform: Any, part: range, batch: int
) -> Iterator[tuple[dict[str, np.ndarray], list[bytes | str]]]:
    """(what the teacher sees, filled up to `batch`; each picture's signature, or why it could not be read)."""
    filler = {name: transform.filler()[name] for name in transform.shown}
    rows: list[Row] = []
    marks: list[bytes | str] = []
    for i, (row, mark) in enumerate(_rows(reader, transform, part, ahead=2 * batch)):
        rows.append(row or filler)
        marks.append(mark)
        if len(rows) == batch or i + 1 == len(part):
            filled = rows + [filler] * (batch - len(rows))
            yield {name: np.stack([row[name] for row in filled]) for name in filler}, marks
            rows, marks = [], []


def _rows(reader: Reader, transform: Any, part: range, ahead: int) -> Iterator[tuple[Row | None, bytes | str]]:
    """(what the teacher sees of a sample, its signature), in order; (None, why) where it cannot be read.

    Read by threads, `ahead` of use.
    """

    def row(index: int) -> tuple[Row | None, bytes | str]:
        try:
            sample = reader[index]
        except Unreadable as error:
            return None, str(error)
        return transform.teacher_input(sample), signature(sample.image)

    with ThreadPoolExecutor() as pool:
        waiting = deque()
        for index in part:
            waiting.append(pool.submit(row, index))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
