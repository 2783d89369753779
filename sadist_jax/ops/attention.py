"""Attention: the one place that chooses how it is computed.

* `plain`: the whole score matrix at once; right for a few hundred tokens.
* `blocks`: `lax.map` over images, heads and blocks of query rows. On XLA's CPU backend this is faster than
  the straight form on thousands of tokens and needs a fraction of the memory; on a GPU it bounds memory in float32, and
  where the fused kernel cannot be had.
* `cudnn`: fused, for float16 and bfloat16 on NVIDIA GPUs. Fused kernels take no bias that depends on the query, so
  decomposed relative positions go in as extra channels of q and k, which is exact.

All take SAM's decomposed relative positions (Li et al. 2022, MViTv2, eq. 4): the score of query i and key (r, c) is
scale * q_i . k_rc + rel_h[i, r] + rel_w[i, c].
"""

import contextlib
import contextvars
import functools
from collections.abc import Iterator
from typing import Literal

import jax
import jax.numpy as jnp

from sadist_jax.ops.each import each
from sadist_jax.ops.precision import wide
from sadist_jax.typing import Array, Bool, Float

Implementation = Literal["plain", "blocks", "cudnn"]
BLOCK = 512  # query rows of a block
FEW = 64  # prompt tokens against an image: the score matrix is small whatever the image
CUDNN_CHANNELS = {(9, 0): 256, (8, 0): 128}  # compute capability from which on the kernel takes so many a head
_platform: contextvars.ContextVar[str | None] = contextvars.ContextVar("platform", default=None)


def attention(
    q: Float[Array, "*b t n d"],
    k: Float[Array, "*b s n d"],
    v: Float[Array, "*b s n d"],
    *,
    relative: tuple[Float[Array, "*b t n r"], Float[Array, "*b t n c"]] | None = None,
    bias: Float[Array, "n t s"] | None = None,
    where: Bool[Array, "*b s"] | None = None,
    implementation: Implementation | None = None,
) -> Float[Array, "*b t n d"]:
    """softmax(q k^T / sqrt(d) + relative positions + bias) v, per image and head.

    Args:
      q, k, v: queries, keys, values: (batch, tokens, heads, head dim). There may be more batch axes, and of those one
        side may have 1 where the other has many; the whole score matrix is made then.
      relative: (rel_h, rel_w) scores of each query with each of the r rows and c columns of keys, s = r * c.
      bias: added to the scores of all images alike; not for the fused kernel.
      where: keys that take part; a row without any gives the mean of v, never NaN.
      implementation: None chooses by device, dtype and size.
    """
    chosen = implementation or choose(q, k, relative, where, bias)
    if chosen == "cudnn":
        if bias is not None or where is not None:
            raise ValueError("the fused kernel takes neither bias nor where; name another implementation, or none")
        return _cudnn(q, k, v, relative)
    if chosen == "blocks":
        return _blocks(q, k, v, relative, where, bias)
    q, k, v, relative = jax.tree.map(lambda x: jnp.swapaxes(x, -3, -2), (q, k, v, relative))
    where = None if where is None else where[..., None, :]
    return jnp.swapaxes(_plain(q, k, v, relative, where, bias), -3, -2)


def choose(
    q: Array, k: Array, relative: tuple[Array, Array] | None, where: Array | None, bias: Array | None = None
) -> Implementation:
    """The fastest known implementation for these operands on the default device."""
    t, s = q.shape[-3], k.shape[-3]
    if q.ndim > 4 or min(t, s) <= FEW or (max(t, s) <= BLOCK and _backend() != "cpu"):
        return "plain"
    low_precision = q.dtype in (jnp.float16, jnp.bfloat16)
    if low_precision and where is None and bias is None and _fused_width(q, relative) <= _cudnn_channels():
        return "cudnn"
    return "blocks"


@contextlib.contextmanager
def planned_for(platform: str) -> Iterator[None]:
    """Choose as on that platform inside the block: for compiling for a device that is not there.

    The fused kernel is left out, since another compiler does not know it.
    """
    token = _platform.set(platform)
    try:
        yield
    finally:
        _platform.reset(token)


def _backend() -> str:
    return _platform.get() or jax.default_backend()


def _fused_width(q: Array, relative: tuple[Array, Array] | None) -> int:
    """Channels of a head in the fused kernel: q's and those of the relative positions, filled up to a multiple of 8."""
    channels = q.shape[-1] + sum(x.shape[-1] for x in relative or ())
    return -(-channels // 8) * 8


def _cudnn_channels() -> int:
    """The most channels a head that the default device's fused kernel takes; 0 without one, as on AMD's GPUs."""
    if _platform.get() or jax.default_backend() != "gpu":
        return 0
    major, _, minor = str(getattr(jax.devices()[0], "compute_capability", "")).partition(".")
    if not (major.isdecimal() and minor.isdecimal()):
        return 0
    capability = (int(major), int(minor))
    return next((channels for least, channels in CUDNN_CHANNELS.items() if capability >= least), 0)


def _plain(q, k, v, relative, where, bias=None):
    """Heads first. The division comes after the product with v: s / d times less work."""
    scores = jnp.einsum("...td,...sd->...ts", q * q.shape[-1] ** -0.5, k, preferred_element_type=wide(q))
    if relative is not None:
        rel_h, rel_w = relative
        positions = rel_h[..., :, None].astype(scores.dtype) + rel_w[..., None, :].astype(scores.dtype)
        scores = scores + positions.reshape(scores.shape)
    if bias is not None:
        scores = scores + bias.astype(scores.dtype)
    if where is not None:
        scores = jnp.where(where[..., None, :], scores, jnp.finfo(scores.dtype).min)
    weights = jnp.exp(scores - jax.lax.stop_gradient(scores.max(-1, keepdims=True)))
    out = jnp.einsum("...ts,...sd->...td", weights.astype(v.dtype), v, preferred_element_type=wide(v))
    return (out / weights.sum(-1, keepdims=True)).astype(v.dtype)


def _blocks(q, k, v, relative, where, bias):
    """Windows (few tokens): one image at a time, all heads. Otherwise one head and BLOCK query rows at a time."""
    q, k, v, relative = jax.tree.map(lambda x: jnp.swapaxes(x, 1, 2), (q, k, v, relative))
    t = q.shape[2]
    rows = next(r for r in range(min(t, BLOCK), 0, -1) if t % r == 0)
    # a backward pass recomputes the scores of a block: saving them would be the full matrix again
    block = jax.checkpoint(_plain)

    def image(args, bias):
        q, k, v, relative, where = args
        if rows == t:
            return block(q, k, v, relative, where, bias)
        return jax.lax.map(functools.partial(head, where), (q, k, v, relative, bias))

    def head(where, args):
        q, k, v, relative, bias = args
        cut = functools.partial(jax.tree.map, lambda x: x.reshape(t // rows, rows, x.shape[-1]))
        parts = (cut(q), cut(relative), cut(bias))
        out = jax.lax.map(lambda part: block(part[0], k, v, part[1], where, part[2]), parts)
        return out.reshape(t, v.shape[-1])

    out = each(image, (q, k, v, relative, where), bias)
    return jnp.swapaxes(out, 1, 2)


def augment(q, k, relative):
    """q' = [q / sqrt(d), rel_h, rel_w] and k' = [k, one-hot row, one-hot column], so that q' . k' is the full score."""
    rel_h, rel_w = relative
    rows, cols = rel_h.shape[-1], rel_w.shape[-1]
    row, col = jnp.divmod(jnp.arange(rows * cols), cols)
    hot = jnp.concatenate([jax.nn.one_hot(row, rows), jax.nn.one_hot(col, cols)], -1).astype(k.dtype)
    hot = jnp.broadcast_to(hot[None, :, None], (k.shape[0], k.shape[1], k.shape[2], rows + cols))
    q = jnp.concatenate([q * q.shape[-1] ** -0.5, rel_h.astype(q.dtype), rel_w.astype(q.dtype)], -1)
    return q, jnp.concatenate([k, hot], -1)


def _cudnn(q, k, v, relative):
    """Fused attention. All head dims must be equal and a multiple of 8, so everything is filled up with zeros."""
    d = v.shape[-1]
    scale, width = d**-0.5, _fused_width(q, relative)
    if relative is not None:
        (q, k), scale = augment(q, k, relative), 1.0
    q, k, v = (jnp.pad(x, ((0, 0),) * 3 + ((0, width - x.shape[-1]),)) for x in (q, k, v))
    return jax.nn.dot_product_attention(q, k, v, scale=scale, implementation="cudnn")[..., :d]
