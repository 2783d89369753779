"""A keras-hub backbone learns sam_mini's features of photos: any model of Keras as a student of ours.

Command: sadist train examples/keras_hub_student.py
Needs: keras-hub, without TensorFlow (README, "Your own models"), and the extra `demo` for the photos.
Hardware: two CPU cores, a minute.
"""

import os

os.environ["KERAS_BACKEND"] = "jax"

import keras
import keras_hub

from sadist_jax.data.in_memory import InMemory
from sadist_jax.data.package_photos import PackagePhotos
from sadist_jax.data.sami_crops import SamiCrops
from sadist_jax.interop.keras import KerasModel
from sadist_jax.methods.feature_distill import FeatureDistill
from sadist_jax.methods.teacher import SamFeatures
from sadist_jax.models.sam import Sam
from sadist_jax.train.optim import Optim
from sadist_jax.train.run import Data, Run
from sadist_jax.train.start import Start

SIDE = 128


def config() -> Run:
    keras.utils.set_random_seed(0)  # the same start values when an interrupted run goes on
    backbone = keras_hub.models.ResNetBackbone(
        input_conv_filters=[64], input_conv_kernel_sizes=[7], stackwise_num_filters=[64, 64],
        stackwise_num_blocks=[1, 1], stackwise_num_strides=[1, 2], block_type="basic_block", use_pre_activation=False,
        image_shape=(SIDE, SIDE, 3),
    )  # fmt: skip
    return Run(
        name="keras_hub_student",
        method=FeatureDistill(
            KerasModel(backbone, pixels="unit"), SamFeatures(Sam.mini().image_encoder), dim=64, grid=SIDE // 8
        ),
        data=Data(InMemory(PackagePhotos("train")), SamiCrops(SIDE)),
        steps=100,
        global_batch=8,
        optim=Optim(lr=3e-3, warmup=10),
        starts=(Start(r"teacher\.(.*)", "sam_mini"),),
    )
