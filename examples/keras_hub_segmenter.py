"""A keras-hub segmenter trained with our losses and optax, its batch statistics and dropout threaded through the step.

Command: python examples/keras_hub_segmenter.py
Needs: keras-hub, without TensorFlow (README, "Your own models"), and the extra `demo` for the photo.
"""

import os

os.environ["KERAS_BACKEND"] = "jax"

import jax
import keras_hub
import numpy as np
import optax

from sadist_jax import losses, tree
from sadist_jax.data.package_photos import PackagePhotos
from sadist_jax.interop.keras import KerasModel
from sadist_jax.nn import table
from sadist_jax.ops.pixels import normalize

SIDE = 128


def segmenter() -> KerasModel:
    """DeepLabV3 on a small ResNet."""
    backbone = keras_hub.models.ResNetBackbone(
        input_conv_filters=[64], input_conv_kernel_sizes=[7], stackwise_num_filters=[64, 64],
        stackwise_num_blocks=[1, 1], stackwise_num_strides=[1, 2], block_type="basic_block", use_pre_activation=False,
        image_shape=(SIDE, SIDE, 3),
    )  # fmt: skip
    deeplab = keras_hub.models.DeepLabV3Backbone(
        image_encoder=backbone, spatial_pyramid_pooling_key="P3", upsampling_size=2, dilation_rates=[2, 4],
        low_level_feature_key="P2", projection_filters=16, image_shape=(SIDE, SIDE, 3),
    )  # fmt: skip
    model = keras_hub.models.DeepLabV3ImageSegmenter(deeplab, num_classes=1)
    return KerasModel(model, pixels="unit")


def fit(steps: int = 60) -> tuple[list[float], np.ndarray]:
    """(losses of the steps, target (4, h, w)): four crops of a photo, and whatever is bright in them."""
    model = segmenter()
    params = table.init(model.table(), jax.random.key(0))
    stats = {name for name, leaf in tree.flatten(model.table()).items() if leaf.role == "stat"}
    stats, params = tree.partition(params, stats)
    optimizer = optax.adam(3e-3)
    image, target = crops()

    @jax.jit
    def step(params, stats, state, key):
        def loss(params):
            out, aux = model.train(tree.merge(params, stats), normalize(image), key)
            logits = jax.image.resize(out[..., 0], target.shape, "bilinear")
            return (losses.dice(logits, target) + losses.focal_mask(logits, target)).mean(), aux["stats"]

        (value, stats_), grads = jax.value_and_grad(loss, has_aux=True)(params)
        updates, state = optimizer.update(grads, state)
        return optax.apply_updates(params, updates), stats_, state, value

    state, history = optimizer.init(params), []
    for i in range(steps):
        params, stats, state, value = step(params, stats, state, jax.random.key(i))
        history.append(float(value))
    return history, target


def crops() -> tuple[np.ndarray, np.ndarray]:
    photos = PackagePhotos("held_out").open()
    photo = next(photos[i].image for i in range(len(photos)) if "astronaut" in photos.name(i))
    image = np.stack([photo[y : y + SIDE, x : x + SIDE] for y in (0, 250) for x in (100, 250)])
    return image, (image.mean(-1) > 128).astype(np.float32)


if __name__ == "__main__":
    history, _ = fit()
    print(f"loss {history[0]:.3f} -> {history[-1]:.3f}")
