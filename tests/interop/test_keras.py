"""A model of ours as a Keras layer, and Keras models as students; run where Keras is installed."""

import os

import jax
import numpy as np
import pytest

os.environ["KERAS_BACKEND"] = "jax"
keras = pytest.importorskip("keras")

from sadist_jax import tree  # noqa: E402
from sadist_jax.errors import BadInput  # noqa: E402
from sadist_jax.interop.keras import KerasModel, OursInKeras  # noqa: E402
from sadist_jax.methods.feature_distill import FeatureDistill  # noqa: E402
from sadist_jax.methods.sami import Sami  # noqa: E402
from sadist_jax.methods.teacher import EncoderFeatures  # noqa: E402
from sadist_jax.models.sami_decoder import CrossDecoder  # noqa: E402
from sadist_jax.models.vit import Vit  # noqa: E402
from sadist_jax.nn import table as leaves  # noqa: E402
from sadist_jax.ops.pixels import normalize  # noqa: E402
from sadist_jax.parallel.mesh import MeshSpec  # noqa: E402
from sadist_jax.parallel.shard import ShardSpec  # noqa: E402
from sadist_jax.train import plan  # noqa: E402
from sadist_jax.train.optim import Optim  # noqa: E402

VIT = Vit(dim=16, depth=2, heads=2, patch=8, image_size=32)
RNG = np.random.default_rng(0)
IMAGE = RNG.standard_normal((4, 32, 32, 3)).astype(np.float32)
RAW = (IMAGE * np.array([58.395, 57.12, 57.375]) + np.array([123.675, 116.28, 103.53])).astype(np.float32)

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:keras")


def classifier():
    encoder = OursInKeras(VIT, name="encoder")
    pool = keras.layers.GlobalAveragePooling2D()
    return keras.Sequential([keras.Input((32, 32, 3)), encoder, pool, keras.layers.Dense(1)])


def net(**options):
    """A convolution, batch statistics, dropout."""
    inputs = keras.Input((32, 32, 3))
    x = keras.layers.Conv2D(8, 8, strides=8, name="conv")(inputs)
    x = keras.layers.BatchNormalization(momentum=0.5, name="norm")(x)
    return keras.Model(inputs, keras.layers.Dropout(0.5, seed=1)(x), **options)


class Twins(keras.Model):
    """Two layers with one name."""

    def __init__(self):
        super().__init__()
        self.layers_ = [keras.layers.Dense(3, name="dense") for _ in range(2)]

    def call(self, x):
        return sum(layer(x) for layer in self.layers_)


def start(model):
    return leaves.init(model.table(), jax.random.key(0))


def test_a_layer_of_ours_gives_what_the_model_gives():
    params = VIT.init(jax.random.key(1))
    layer = OursInKeras(VIT, params)
    np.testing.assert_allclose(layer(IMAGE), VIT.apply(params, IMAGE)[0], rtol=1e-5, atol=1e-6)
    jax.tree.map(np.testing.assert_array_equal, layer.params(), params)
    assert {v.path.partition("/")[2] for v in layer.trainable_variables} == set(tree.flatten(params))


def test_it_trains_in_fit_is_saved_and_comes_back(tmp_path):
    model = classifier()
    model.compile(optimizer=keras.optimizers.Adam(3e-3), loss="mse")
    before = np.asarray(model.layers[0].params()["blocks"]["0"]["attn"]["qkv"]["weight"])
    target = np.array([[0.0], [1], [2], [3]], np.float32)
    history = model.fit(IMAGE, target, epochs=20, batch_size=4, verbose=0).history["loss"]
    assert history[-1] < 0.5 * history[0]
    assert not np.array_equal(before, model.layers[0].params()["blocks"]["0"]["attn"]["qkv"]["weight"])
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert again.layers[0].model == VIT
    np.testing.assert_allclose(again.predict(IMAGE, verbose=0), model.predict(IMAGE, verbose=0), rtol=1e-5, atol=1e-6)


def test_a_frozen_layer_stays():
    model = classifier()
    model.layers[0].trainable = False
    model.compile(optimizer="adam", loss="mse")
    before = jax.tree.map(np.asarray, model.layers[0].params())
    model.fit(IMAGE, np.ones((4, 1), np.float32), epochs=1, verbose=0)
    jax.tree.map(np.testing.assert_array_equal, before, model.layers[0].params())


def test_a_keras_model_is_an_encoder():
    network = net()
    network.get_layer("norm").moving_mean.assign(RNG.standard_normal(8).astype(np.float32))
    model = KerasModel(network)
    roles = {name: leaf.role for name, leaf in tree.flatten(model.table()).items()}
    assert roles == {
        "conv.kernel": "weight", "conv.bias": "weight", "norm.gamma": "weight", "norm.beta": "weight",
        "norm.moving_mean": "stat", "norm.moving_variance": "stat",
    }  # fmt: skip
    assert hash(model) == hash(KerasModel(network))
    out, aux = model.apply(start(model), IMAGE)
    assert aux == {}
    np.testing.assert_allclose(out, network(IMAGE, training=False), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("pixels", "image"), [("raw", RAW), ("unit", RAW / 255)])
def test_it_sees_the_pixels_that_it_expects(pixels, image):
    network = net()
    model = KerasModel(network, pixels=pixels)
    ours = model.apply(start(model), IMAGE)[0]
    np.testing.assert_allclose(ours, network(image, training=False), rtol=1e-3, atol=1e-3)


def test_its_statistics_and_its_randomness_are_threaded_through():
    model = KerasModel(net())
    params, train = start(model), jax.jit(model.train)
    one, aux = train(params, IMAGE, jax.random.key(0))
    np.testing.assert_array_equal(one, train(params, IMAGE, jax.random.key(0))[0])
    assert not np.array_equal(one, train(params, IMAGE, jax.random.key(1))[0])
    conv = keras.ops.convert_to_numpy(model.model.get_layer("conv")(IMAGE))
    np.testing.assert_allclose(aux["stats"]["norm"]["moving_mean"], 0.5 * conv.mean((0, 1, 2)), rtol=1e-4, atol=1e-6)
    assert set(tree.flatten(aux["stats"])) == {"norm.moving_mean", "norm.moving_variance"}


def test_weights_go_back():
    network = net()
    model = KerasModel(network)
    params = jax.tree.map(lambda x: x + 1, start(model))
    expected = model.apply(params, IMAGE)[0]
    model.assign(params)
    np.testing.assert_allclose(network(IMAGE, training=False), expected, rtol=1e-5, atol=1e-6)


def test_names_that_keras_uses_twice_are_numbered():
    network = Twins()
    network(IMAGE)
    names = set(tree.flatten(KerasModel(network).table()))
    assert {name.partition("dense.")[2] for name in names} == {"kernel", "bias", "kernel_2", "bias_2"}


def test_a_model_without_weights_is_refused():
    with pytest.raises(BadInput, match="lazy has no weights yet"):
        KerasModel(keras.Sequential([keras.layers.Dense(3)], name="lazy"))


@pytest.mark.parametrize("method", ["sami", "feature_distill"])
def test_a_keras_model_is_a_frozen_teacher(method):
    """Two steps towards its features; it does not move, and its own arrays are still there afterwards."""
    model = net(name="teacher")
    teacher = EncoderFeatures(KerasModel(model), dim=8)
    if method == "sami":
        what, grid = Sami(VIT, CrossDecoder(16, 8, 4, dim=16, depth=1, heads=2), teacher), 4
    else:
        what, grid = FeatureDistill(VIT, teacher, dim=16, grid=4), 4
    optim = Optim(lr=1e-2, schedule="constant", warmup=0)
    layout = {"mesh": MeshSpec(), "shard_spec": ShardSpec(), "devices": jax.devices()[:1]}
    run = plan.make(what, steps=10, global_batch=4, optim=optim, **layout)
    state, frozen = run.create({}), run.create_frozen({})
    image = RNG.integers(0, 256, (4, 32, 32, 3), np.uint8)
    expected = np.asarray(model(normalize(image)))
    targets = teacher.targets(frozen["teacher"], {"image": image}, grid)
    np.testing.assert_allclose(targets, expected.reshape(4, 16, 8), rtol=1e-4, atol=1e-5)
    rows = {"image": image, "index": np.arange(4, dtype=np.int32), "weight": np.ones(4, np.float32)}
    losses = []
    for _ in range(5):
        state, metrics = run.step(state, frozen, jax.device_put(rows, run.rows))
        total, weight = metrics["loss"]
        losses.append(float(total / weight))
    assert losses[-1] < losses[0]
    np.testing.assert_array_equal(model(normalize(image)), expected)
