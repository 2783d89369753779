"""Our image encoder as a contender, preprocessing included; its peers: sam_encoder.py, efficient_sam_encoder.py."""

from pathlib import Path

from benchmarks.case import Op, photo


def ours(folder: Path, size: str, batch: int) -> Op:
    """`size` is in the weights that `prepare` wrote."""
    import jax
    import numpy as np

    from sadist_jax import pretrained

    model, params = pretrained.load(folder / "weights.pth")
    params = jax.device_put(params)
    image = jax.device_put(photo(model.image_size, batch))
    encode = jax.jit(model.encode)

    def run() -> jax.Array:
        return encode(params, image).block_until_ready()

    return Op(run, lambda: {"embedding": np.asarray(run())})
