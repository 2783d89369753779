"""The step of a run, traced and compiled for devices that need not be there; no array is made and no file read."""

import contextlib
import dataclasses
import re
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from sadist_jax.ops.attention import planned_for
from sadist_jax.parallel import collectives
from sadist_jax.parallel.collectives import Collective
from sadist_jax.parallel.kinds import Kind
from sadist_jax.parallel.mesh import MeshSpec
from sadist_jax.train import begin, work
from sadist_jax.train import run as runs
from sadist_jax.train.plan import Plan
from sadist_jax.train.run import Run
from sadist_jax.train.work import Work

# For XLA's CPU compiler. Without the first it does not count what lies inside fusions of YNNPACK; the second leaves out
# what makes a program fast, since it will not run; and messages that have been put together cannot be told apart.
CPU_OPTIONS = {
    "xla_cpu_experimental_ynn_fusion_type": "",
    "xla_backend_optimization_level": 0,
    "xla_disable_hlo_passes": "cpu-all-reduce-combiner",
}
_CHANNEL = re.compile(r"channel_id=(\d+)")


class Memory(NamedTuple):
    """Bytes that a compiler reserves on each device for one step: results are those that take no argument's place."""

    arguments: int
    temporaries: int
    results: int

    @property
    def total(self) -> int:
        return sum(self)


@dataclasses.dataclass(frozen=True)
class Program:
    """What a compiler says of a step: its name for people, the mesh as (axis, size) pairs, the seconds that it took."""

    compiler: str
    mesh: tuple[tuple[str, int], ...]
    memory: Memory
    collectives: tuple[Collective, ...]
    seconds: float


class Laid(NamedTuple):
    """A run laid out on devices, and its step as JAX has traced it."""

    job: Plan
    traced: jax.stages.Traced


def trace(run: Run, devices: Sequence[Any], kind: Kind) -> Laid:
    """The step on those devices, as it would be written for so many of that kind.

    Raises:
      BadInput: what the run describes cannot be, or does not fit so many devices.
    """
    runs.check(run)
    job = begin.plan_of(run, devices, int(kind.usable), min(kind.node, len(devices)))
    with planned_for(kind.platform):
        return Laid(job, job.step.trace(job.template, job.frozen, batch(run, job.rows)))


def batch(run: Run, sharding: Any) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes of the batch, from the transform alone: the data may be anywhere."""
    row = {**run.data.transform.filler(), "weight": np.float32(0), "index": np.int32(0)}
    rows = {name: np.asarray(value) for name, value in row.items()}
    return {
        name: jax.ShapeDtypeStruct(
            (run.global_batch, *value.shape), jax.dtypes.canonicalize_dtype(value.dtype), sharding=sharding
        )
        for name, value in rows.items()
    }


def compiled(laid: Laid, compiler: str, options: dict[str, Any]) -> Program:
    """What the compiler of the devices that it is laid out on says of the step; `compiler` is its name for people."""
    begin = time.monotonic()
    program = laid.traced.lower().compile(compiler_options=options)
    return _program(laid, compiler, program, program.as_text() or "", begin)


def compiled_by_cpu(laid: Laid) -> Program:
    """What XLA's CPU compiler says of the step on simulated devices.

    It makes float32 of bfloat16 before it sends it, which others do not: which messages are of bfloat16 is read from
    the program as it was cut for the devices, and they are counted so.
    """
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, _uncached():
        dump = {"xla_dump_to": folder, "xla_dump_hlo_pass_re": "spmd-partitioning"}
        program = laid.traced.lower().compile(compiler_options=CPU_OPTIONS | dump)
        (cut,) = [file.read_text() for file in Path(folder).glob("*.after_spmd-partitioning.*")] or [""]
    narrow = {match[1] for line in cut.splitlines() if " = bf16[" in line and (match := _CHANNEL.search(line))}
    lines = (program.as_text() or "").splitlines()
    text = "\n".join(
        line.replace("f32[", "bf16[") if (match := _CHANNEL.search(line)) and match[1] in narrow else line
        for line in lines
    )
    return _program(laid, "XLA's CPU compiler", program, text, begin)


def _program(laid: Laid, compiler: str, program: jax.stages.Compiled, text: str, begin: float) -> Program:
    found = program.memory_analysis()
    assert found is not None
    fresh = max(0, found.output_size_in_bytes - found.alias_size_in_bytes)
    memory = Memory(found.argument_size_in_bytes, found.temp_size_in_bytes, fresh)
    messages = tuple(collectives.find(text))
    return Program(compiler, tuple(laid.job.mesh.shape.items()), memory, messages, time.monotonic() - begin)


@contextlib.contextmanager
def _uncached() -> Iterator[None]:
    """Nothing that is compiled inside the block is kept: a program that nobody runs."""
    name = "jax_persistent_cache_min_compile_time_secs"
    before = getattr(jax.config, name)
    jax.config.update(name, float("inf"))
    try:
        yield
    finally:
        jax.config.update(name, before)


def share_of_one(run: Run, laid: Laid, kind: Kind) -> Work:
    """What one of the devices computes: the step on its rows alone, with every weight whole."""
    (rows,) = laid.job.rows.shard_shape((run.global_batch,))
    own = dataclasses.replace(run, global_batch=rows, mesh=MeshSpec(fsdp=1))
    return work.count(trace(own, jax.devices("cpu")[:1], kind).traced.jaxpr)
