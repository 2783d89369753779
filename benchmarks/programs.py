"""The big programs at full size: memory.py asks the compiler for their memory, accelerator.py runs them."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import flops
from sadist_jax.methods.adapted import Adapted
from sadist_jax.methods.clicks import BOX_SLOTS, Clicks
from sadist_jax.methods.promptable import Promptable
from sadist_jax.methods.sami import Sami
from sadist_jax.methods.teacher import CachedFeatures, SamFeatures
from sadist_jax.methods.weak_lora import WeakLora
from sadist_jax.models.efficient_sam import EfficientSam
from sadist_jax.models.sam import Sam
from sadist_jax.models.vit import Vit
from sadist_jax.nn import table
from sadist_jax.parallel.mesh import MeshSpec
from sadist_jax.parallel.shard import ShardSpec
from sadist_jax.train import plan
from sadist_jax.train.optim import Optim

INSTANCES, ROUNDS = 16, 3
WEAK_INSTANCES = 40  # the most that WeSAM takes of an image
DTYPE = "bfloat16"


@dataclasses.dataclass(frozen=True)
class Work:
    """One program at one batch size.

    step: compiled by jax.jit; of `first` and `rest`.
    shapes: abstract values of (first, *rest).
    make: the values themselves, on the device.
    carries: the step returns (its next first argument, anything), as a training step does, which donates it.
    flops: of one image, by formula.
    """

    step: Any
    shapes: tuple[Any, ...]
    make: Callable[[], tuple[Any, ...]]
    carries: bool
    flops: int


class Reserved(NamedTuple):
    """Bytes that XLA reserves for a compiled program: fresh are results that take no argument's place."""

    arguments: int
    temporary: int
    fresh: int

    @property
    def total(self) -> int:
        return sum(self)


def reserved(compiled: Any) -> Reserved:
    """Of `jax.jit(...).lower(...).compile()`."""
    found = compiled.memory_analysis()
    fresh = max(0, found.output_size_in_bytes - found.alias_size_in_bytes)
    return Reserved(found.argument_size_in_bytes, found.temp_size_in_bytes, fresh)


def sam_encoder(size: str, batch: int) -> Work:
    """SAM's image encoder at 1024 px, preprocessing included; float32 weights, bfloat16 activations."""
    model = getattr(Sam, size)(dtype=DTYPE)
    parts = {"image_encoder": model.table()["image_encoder"]}
    return _encoder(model, parts, batch, flops.vit_det(model.image_encoder, model.image_size))


def efficient_sam_encoder(size: str, batch: int) -> Work:
    """EfficientSAM's image encoder at 1024 px, preprocessing included; float32 weights, bfloat16 activations."""
    model = getattr(EfficientSam, size)(dtype=DTYPE)
    parts = {"image_encoder": model.table()["image_encoder"]}
    return _encoder(model, parts, batch, _encoder_flops(model))


def _encoder_flops(model: EfficientSam) -> int:
    vit, tokens = model.image_encoder, (model.image_size // model.image_encoder.patch) ** 2
    return flops.vit(vit, model.image_size) + flops.neck(tokens, vit.dim, model.mask_decoder.dim)


def _encoder(model: Any, parts: Any, batch: int, count: int) -> Work:
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    place = lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here)  # noqa: E731
    params, image = jax.tree.map(place, (table.abstract(parts), _image(batch, model.image_size)))
    make = lambda: (jax.tree.map(_weight, params), jax.device_put(_batch({"image": image})["image"], here))  # noqa: E731
    return Work(jax.jit(model.encode), (params, image), make, carries=False, flops=count)


def sami_cached(size: str, batch: int, *, remat: bool = False) -> Work:
    """A training step of SAMI at 224 px, the teacher's features given; AdamW.

    remat: the blocks of the decoder are computed again in the backward pass.
    """
    method = Sami.make(getattr(Vit, size)(dtype=DTYPE), CachedFeatures(256))
    method = dataclasses.replace(method, decoder=dataclasses.replace(method.decoder, remat=remat))
    grid, side = method.grid, method.student.image_size
    rows = {"image": _image(batch, side), "target": _of((batch, grid, grid, 256), np.float32)}
    return _training(method, batch, rows, flops.sami_step(method))


def sami_online(size: str, teacher: str, batch: int, *, fsdp: int = 1, remat: bool = False) -> Work:
    """A training step of SAMI at 224 px with SAM's encoder in it, which sees the same crop; AdamW.

    fsdp: devices that share weights, moments and the batch.
    remat: the teacher's blocks are a scan.
    """
    encoder = getattr(Sam, teacher)(dtype=DTYPE, remat=remat).image_encoder
    method = Sami.make(getattr(Vit, size)(dtype=DTYPE), SamFeatures(encoder))
    count = flops.sami_step(method) + flops.vit_det(encoder, method.student.image_size)
    return _training(method, batch, {"image": _image(batch, method.student.image_size)}, count, fsdp)


def promptable(size: str, batch: int) -> Work:
    """A training step of EfficientSAM at 1024 px: 16 objects an image, three rounds of clicks; AdamW; blocks and rounds
    are computed again in the backward pass."""
    model = getattr(EfficientSam, size)(dtype=DTYPE, remat=True)
    method = Promptable(model, Clicks(rounds=ROUNDS, quiet_rounds=0), multimask="always")
    side = model.image_size
    rows = {
        "image": _image(batch, side),
        "size": _of((batch, 2), np.int32),
        "masks": _of((batch, INSTANCES, side, side), np.uint8),
        "instance": _of((batch, INSTANCES), np.bool_),
    }
    tokens = (side // model.image_encoder.patch) ** 2
    decoder = flops.mask_decoder(model.mask_decoder, tokens, model.slots or BOX_SLOTS)
    return _training(method, batch, rows, flops.BACKWARD * (_encoder_flops(model) + ROUNDS * INSTANCES * decoder))


def weak_lora(size: str, batch: int, *, dtype: str = DTYPE) -> Work:
    """A training step of WeSAM at 1024 px: 40 boxes an image, decoded eight at a time; rank 4 on q and v, Adam; the
    anchor is in the step; blocks and chunks of boxes are computed again in the backward pass."""
    model = getattr(Sam, size)(dtype=dtype, remat=True)
    method, side, slots = WeakLora(Adapted(model)), model.image_size, (batch, WEAK_INSTANCES, BOX_SLOTS)
    rows = {
        "image": _image(batch, side),
        "strong": _image(batch, side),
        "size": _of((batch, 2), np.int32),
        "points": _of((*slots, 2), np.float32),
        "labels": _of(slots, np.int32),
        "instance": _of(slots[:2], np.bool_),
    }
    decoder = flops.mask_decoder(model.mask_decoder, model.image_encoder.grid**2, BOX_SLOTS)
    forward = flops.vit_det(model.image_encoder, side) + WEAK_INSTANCES * decoder
    # teacher, student and anchor; through frozen weights the way back is one product more, not two
    return _training(method, batch, rows, (2 + 2 + 1) * forward)


def _training(method: Any, batch: int, rows: Mapping[str, jax.ShapeDtypeStruct], count: int, fsdp: int = 1) -> Work:
    run = plan.make(
        method, steps=10**6, global_batch=batch, optim=Optim(lr=1e-4), mesh=MeshSpec(fsdp=fsdp),
        shard_spec=ShardSpec(), devices=jax.devices()[:fsdp],
    )  # fmt: skip
    rows = {**rows, "index": _of((batch,), np.int32), "weight": _of((batch,), np.float32)}
    structs = {name: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=run.rows) for name, x in rows.items()}

    def make() -> tuple[Any, ...]:
        return run.create({}), run.create_frozen({}), jax.device_put(_batch(rows), run.rows)

    return Work(run.step, (run.template, run.frozen, structs), make, carries=True, flops=count)


def _of(shape: tuple[int, ...], dtype: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype)


def _image(batch: int, side: int) -> jax.ShapeDtypeStruct:
    return _of((batch, side, side, 3), np.uint8)


def _batch(rows: Mapping[str, jax.ShapeDtypeStruct]) -> dict[str, np.ndarray]:
    """Values of a batch: pixels and features are random."""
    rng = np.random.default_rng(0)
    batch = {name: np.ones(x.shape, x.dtype) for name, x in rows.items()}
    for name, below in (("image", 256), ("strong", 256), ("masks", 2)):
        if name in rows:
            batch[name] = rng.integers(0, below, rows[name].shape, np.uint8)
    if "target" in rows:
        batch["target"] = rng.standard_normal(rows["target"].shape, np.float32)
    if "size" in rows:
        batch["size"] *= rows["image"].shape[1]
    if "index" in rows:
        batch["index"] = np.arange(*rows["index"].shape, dtype=np.int32)
    return batch


def _weight(x: jax.ShapeDtypeStruct) -> jax.Array:
    """Random, since a GPU computes faster on zeros, which take less power."""
    return jnp.asarray(0.05 * np.random.default_rng(0).standard_normal(x.shape, np.float32), x.dtype)
