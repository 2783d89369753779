"""Compute a teacher's features once: what a run's teacher would see of each sample, in shards on disk.

A ViT-H at 1024 px is 99.5 % of an online step of SAMI-Ti (5961 of 5988 GFLOP, a formula); cached, a step costs 26.7
GFLOP, 224 times less. An image takes 2 h w c bytes: 100 KB for 14 x 14 x 256, 2.1 MB for the whole image's 64 x 64 x
256; a run that makes n samples a second reads n times that.
"""

import contextlib
import os
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import ml_dtypes
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from sadist_jax import pretrained, tree
from sadist_jax.data.features import MANIFEST, Manifest, check_shard, differences, read_manifest
from sadist_jax.data.sami_views import FixedCrops, FrameCrops
from sadist_jax.data.sample import Reader, Row, Unreadable
from sadist_jax.errors import BadInput
from sadist_jax.methods.teacher import FrameFeatures, SamFeatures
from sadist_jax.nn import table as leaves
from sadist_jax.parallel import mesh as meshes
from sadist_jax.parallel.mesh import MeshSpec
from sadist_jax.train import start, state
from sadist_jax.train.run import Run
from sadist_jax.weights.digest import digest

PER_SHARD = 1024  # samples; 100 MB or 2.1 GB


def write(
    run: Run, folder: Path, *, batch: int = 8, shards: int = 0, process: int = 0, processes: int = 1,
    say: Callable[[str], None] = print,
) -> Manifest:  # fmt: skip
    """Compute the features of a run's data; shards that are there already are left alone.

    Args:
      run: its method has a teacher of SAM features, its transform a view that does not depend on chance.
      folder: the cache.
      batch: samples at a time, a multiple of the number of devices.
      shards: 0: one for every PER_SHARD samples.
      process, processes: this process does every `processes`-th shard; they need not know each other.
    Raises:
      BadInput: the run's crops are random, its teacher's weights come from no file, or the folder holds other features.
    """
    teacher, transform = _checked(run)
    table, whole = {"teacher": teacher.table()}, tree.merge(*run.method.table().values())
    values = start.overlay(run.starts, whole, tree.flatten(table).keys())
    if missing := tree.flatten(table).keys() - values:
        raise BadInput(f"no start of {run.name} gives the teacher's weights ({min(missing)} and others); add one")
    reader = run.data.source.open()
    grid = run.method.grid
    shape = _shape(teacher, transform, grid)
    wanted = Manifest(
        teacher=pretrained.as_text(teacher),
        weights=digest(values),
        view=transform.view(),
        data=reader.digest(),
        samples=len(reader),
        shape=shape,
        shards=shards or max(1, -(-len(reader) // PER_SHARD)),
    )
    manifest = _agree(folder, wanted)
    compute = _computer(teacher, table, values, grid, batch)
    for shard in range(process, manifest.shards, processes):
        path = folder / manifest.file(shard)
        if path.exists():
            check_shard(path, len(manifest.part(shard)))
            continue
        for left in folder.glob(f".{path.name}.*"):  # by a process that was killed
            left.unlink(missing_ok=True)
        bad = _write_shard(path, reader, transform, manifest.part(shard), compute, batch)
        left_out = f", {bad} pictures could not be read" if bad else ""
        say(f"{path.name}: {len(manifest.part(shard))} samples{left_out}")
    return manifest


def _checked(run: Run) -> tuple[SamFeatures | FrameFeatures, FixedCrops | FrameCrops]:
    """(teacher, transform), which must fit each other."""
    teacher, transform = getattr(run.method, "teacher", None), run.data.transform
    for seen, crops in ((FrameFeatures, FrameCrops), (SamFeatures, FixedCrops)):
        if isinstance(teacher, seen) and isinstance(transform, crops):
            return teacher, transform
    raise BadInput(
        f"{run.name} has {type(teacher).__name__} as teacher and {type(transform).__name__} as crops; a cache holds "
        "FrameFeatures of FrameCrops (the teacher sees the whole image), or SamFeatures of FixedCrops (always the same "
        "crop)"
    )


def _agree(folder: Path, wanted: Manifest) -> Manifest:
    """The folder's manifest, written if there is none. Raises BadInput where it is of something else."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / MANIFEST).exists():
        partial = folder / f".{MANIFEST}.{uuid.uuid4().hex}"
        partial.write_text(wanted.text(), encoding="utf-8")
        with contextlib.suppress(FileExistsError):  # another process was first; it is compared with below
            os.link(partial, folder / MANIFEST)
        partial.unlink()
    found = read_manifest(folder)
    if lines := differences(found, wanted):
        raise BadInput(f"{folder} holds other features; choose another folder, or delete it:\n{lines}")
    return found


def _shape(teacher: SamFeatures | FrameFeatures, transform: Any, grid: int) -> tuple[int, int, int]:
    rows = {name: np.asarray(value)[None] for name, value in transform.filler().items()}
    params = leaves.abstract(teacher.table())
    _, h, w, c = jax.eval_shape(lambda p, rows: teacher.features(p, rows, grid), params, rows).shape
    return h, w, c


def _computer(
    teacher: SamFeatures | FrameFeatures, table: leaves.Table, values: dict[str, np.ndarray], grid: int, batch: int
) -> Callable[[dict[str, np.ndarray]], np.ndarray]:
    """Function of a batch on this process's devices -> (batch, h, w, c) bfloat16."""
    mesh = meshes.make(MeshSpec(), jax.local_devices())
    if batch % mesh.size:
        raise BadInput(f"--batch {batch} does not fit {mesh.size} devices; make it a multiple of {mesh.size}")
    everywhere = NamedSharding(mesh, PartitionSpec())
    shardings = tree.map_named(lambda _, leaf: everywhere, table)
    params = state.fill(table, values, jax.random.key(0), shardings)["teacher"]
    rows = NamedSharding(mesh, PartitionSpec(mesh.axis_names))

    @jax.jit
    def features(params, batch):
        return teacher.features(params, batch, grid).astype(ml_dtypes.bfloat16)

    return lambda batch: np.asarray(features(params, jax.device_put(batch, rows)))


def _write_shard(
    path: Path, reader: Reader, transform: Any, part: range, compute: Callable[..., np.ndarray], batch: int
) -> int:
    """Write a shard, whole or not at all; returns how many pictures could not be read."""
    from array_record.python.array_record_module import ArrayRecordWriter

    bad, partial = 0, path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    writer = ArrayRecordWriter(str(partial), "group_size:1,uncompressed")
    try:
        for rows, readable in _batches(reader, transform, part, batch):
            features = compute(rows)
            for i, good in enumerate(readable):
                writer.write(_little_endian(features[i]) if good else b"")
            bad += readable.count(False)
        writer.close()
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return bad


def _little_endian(features: np.ndarray) -> bytes:
    return features.view(np.uint16).astype("<u2").tobytes()


def _batches(
    reader: Reader, transform: Any, part: range, batch: int
) -> Iterator[tuple[dict[str, np.ndarray], list[bool]]]:
    """(what the teacher sees, filled up to `batch`; whether each of the samples could be read)."""
    filler = {name: transform.filler()[name] for name in transform.shown}
    rows: list[Row | None] = []
    for i, row in enumerate(_rows(reader, transform, part, ahead=2 * batch)):
        rows.append(row)
        if len(rows) == batch or i + 1 == len(part):
            filled = [row or filler for row in rows] + [filler] * (batch - len(rows))
            yield {name: np.stack([row[name] for row in filled]) for name in filler}, [row is not None for row in rows]
            rows = []


def _rows(reader: Reader, transform: Any, part: range, ahead: int) -> Iterator[Row | None]:
    """What the teacher sees of each sample, in order, None where it cannot be read; read by threads, `ahead` of use."""

    def row(index: int) -> Row | None:
        try:
            return transform.teacher_input(reader[index])
        except Unreadable:
            return None

    with ThreadPoolExecutor() as pool:
        waiting = deque()
        for index in part:
            waiting.append(pool.submit(row, index))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
