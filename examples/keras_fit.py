"""A model of ours inside keras.Model.fit: sam_mini's encoder, tuned with a Keras head to find what is bright.

Command: python examples/keras_fit.py
Needs: the extras `keras` and `demo`. Two CPU cores: half a minute.
"""

import os

os.environ["KERAS_BACKEND"] = "jax"

import keras
import numpy as np

import sadist_jax
from sadist_jax import losses
from sadist_jax.data.package_photos import PackagePhotos
from sadist_jax.interop.keras import OursInKeras
from sadist_jax.ops.pixels import normalize

SIDE = 128


def segmentation_loss(target, logits):
    """Ours, as Keras calls a loss: (B, h, w, 1) each."""
    target, logits = target[..., 0], logits[..., 0]
    return losses.dice(logits, target) + losses.focal_mask(logits, target)


def photo_and_mask() -> tuple[np.ndarray, np.ndarray]:
    """A piece of the astronaut's photo (1, h, w, 3), and whatever is bright in it (1, h / 8, w / 8, 1)."""
    photos = PackagePhotos("held_out").open()
    photo = next(photos[i].image for i in range(len(photos)) if "astronaut" in photos.name(i))[:SIDE, 150 : 150 + SIDE]
    mask = photo.mean(-1).reshape(SIDE // 8, 8, SIDE // 8, 8).mean((1, 3)) > 128
    return photo[None], mask[None, ..., None].astype(np.float32)


def fit(epochs: int = 30) -> tuple[list[float], np.ndarray]:
    """(losses of the epochs, target (1, h, w))."""
    sam, params = sadist_jax.load("sam_mini")
    encoder = OursInKeras(sam.image_encoder, params["image_encoder"])
    model = keras.Sequential([keras.Input((SIDE, SIDE, 3)), encoder, keras.layers.Dense(1)])
    model.compile(optimizer=keras.optimizers.Adam(3e-3), loss=segmentation_loss)
    photo, mask = photo_and_mask()
    history = model.fit(np.asarray(normalize(photo)), mask, epochs=epochs, verbose=0)
    return history.history["loss"], mask[..., 0]


if __name__ == "__main__":
    history, _ = fit()
    print(f"loss {history[0]:.3f} -> {history[-1]:.3f}")
