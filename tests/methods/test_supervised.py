"""Label smoothing and mixup by hand, and that accumulation does not change who is mixed with whom."""

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from sadist_jax import tree
from sadist_jax.errors import BadInput
from sadist_jax.methods.supervised import Supervised
from sadist_jax.models.classifier import Classifier
from sadist_jax.nn import table
from sadist_jax.ops.pixels import MEAN, STD
from sadist_jax.parallel import hosts
from sadist_jax.parallel.mesh import MeshSpec
from sadist_jax.parallel.shard import ShardSpec
from sadist_jax.train import optim, plan
from sadist_jax.train.optim import Optim
from tests.parity import draw

KEY = jax.random.key(3)
METHOD, BATCH = Supervised.tiny()
PLAIN = dataclasses.replace(METHOD, model=Classifier(dataclasses.replace(METHOD.model.vit, drop_path=0.0), 3))


@pytest.fixture(scope="module")
def params():
    return jax.device_put(table.from_reference(METHOD.model.table(), draw.state(METHOD.model.table())))


@functools.partial(jax.jit, static_argnums=0)
def computed(method, params, batch):
    """-> (total, weight, aux)."""
    terms, aux = method.loss(params, {}, {}, batch, KEY, 0)
    ((total, weight, coefficient),) = terms.values()
    return total, weight * coefficient, aux


def entropy(logits, target):
    return -(np.asarray(target) * scipy.special.log_softmax(np.asarray(logits, np.float64), -1)).sum(-1)


def test_smoothed_labels_have_a_closed_form():
    """(1 - e) one_hot + e / K: with e = 0.1 and three classes 0.9333 and 0.0333."""
    expected = [[1 / 30, 1 / 30, 28 / 30], [28 / 30, 1 / 30, 1 / 30]]
    np.testing.assert_allclose(METHOD.targets(jnp.array([2, 0])), expected, rtol=1e-6)


def test_the_loss_of_two_rows_by_hand(params):
    method = PLAIN
    batch = {name: value[[0, 1]] for name, value in BATCH.items()} | {"index": np.array([40, 7], np.int32)}
    share = method.shares(jax.random.split(KEY)[0], batch["index"], batch["weight"])
    l = float(share[0])  # noqa: E741
    assert share.tolist() == [l, l]
    assert 0 < l < 1
    image = (batch["image"] - np.array(MEAN)) / np.array(STD)
    target = (1 - 0.1) * np.eye(3)[batch["label"]] + 0.1 / 3
    mixed, targets = (l * a + (1 - l) * a[::-1] for a in (image, target))
    logits, _ = method.model.apply(params, jnp.asarray(mixed, jnp.float32))
    total, weight, aux = computed(method, params, batch)
    assert float(total) == pytest.approx(entropy(logits, targets).sum(), rel=1e-4)
    assert float(weight) == 2
    hits = (np.asarray(logits).argmax(1) == targets.argmax(1)).sum()
    assert [float(x) for x in aux["metrics"]["accuracy"]] == [hits, 2]


def test_without_mixup_and_drop_path_it_is_the_cross_entropy_of_whole_images(params):
    method = dataclasses.replace(PLAIN, mixup=0.0, label_smoothing=0.0)
    batch = {name: value[:3] for name, value in BATCH.items()}
    image = jnp.asarray((batch["image"] - np.array(MEAN)) / np.array(STD), jnp.float32)
    logits, _ = method.model.apply(params, image)
    assert float(computed(method, params, batch)[0]) == pytest.approx(
        entropy(logits, np.eye(3)[batch["label"]]).sum(), rel=1e-4
    )


def test_a_filler_is_mixed_with_nothing_and_counts_for_nothing(params):
    """Row 2 of 8 is a filler: rows 2 and 6 stay what they are, whatever the filler holds."""
    weight = np.ones(8, np.float32)
    weight[2] = 0
    share = np.asarray(METHOD.shares(KEY, BATCH["index"], weight))
    np.testing.assert_array_equal(share == 1, [0, 0, 1, 0, 0, 0, 1, 0])
    totals = []
    for value in (0, 255):
        image, label = BATCH["image"].copy(), BATCH["label"].copy()
        image[2], label[2] = value, value % 3
        batch = BATCH | {"image": image, "label": label, "weight": weight}
        total, count, aux = computed(METHOD, params, batch)
        assert (float(count), float(aux["metrics"]["accuracy"][1])) == (7, 7)
        totals.append(float(total))
    assert totals[0] == pytest.approx(totals[1], rel=1e-6)


def test_shares_are_drawn_from_beta_by_the_position_of_the_first_row():
    """Of Beta(a, a): mean 1/2, variance 1 / (4 (2 a + 1)): 0.0962 for 0.8."""
    index = np.arange(8000)
    shares = np.asarray(METHOD.shares(KEY, index, np.ones(8000)))
    np.testing.assert_array_equal(shares[:4000], shares[4000:])
    assert shares.mean() == pytest.approx(0.5, abs=0.02)
    assert shares.var() == pytest.approx(1 / (4 * 2.6), rel=0.05)
    np.testing.assert_array_equal(METHOD.shares(KEY, index[[17, 5000]], np.ones(2)), shares[[17, 17]])


def make(method, spec, devices, global_batch):
    return plan.make(
        method,
        steps=40,
        global_batch=global_batch,
        optim=spec,
        mesh=MeshSpec(),
        shard_spec=ShardSpec(),
        devices=devices,
    )


def run(method, accumulate, devices):
    """(parameters, metrics) after two steps of 16 rows, one of them a filler."""
    job = make(method, Optim(lr=1e-2, weight_decay=0.1, accumulate=accumulate), devices, 16)
    state, frozen = job.create({}), job.create_frozen({})
    rng = np.random.default_rng(0)
    for step in range(2):
        rows = {
            "image": rng.integers(0, 256, (16, 32, 32, 3), np.uint8),
            "label": rng.integers(0, 3, 16).astype(np.int32),
            "index": np.arange(16) + 16 * step,
            "weight": (np.arange(16) != 5).astype(np.float32),
        }
        state, metrics = job.step(state, frozen, hosts.global_batch(rows, job.rows))
    return jax.device_get((state.params, metrics))


@pytest.fixture(scope="module")
def whole():
    return run(METHOD, 1, jax.devices()[:1])


@pytest.mark.parametrize(("accumulate", "devices"), [(4, 1), (2, 4)])
def test_micro_batches_and_devices_do_not_change_the_step(whole, accumulate, devices):
    """With mixup and drop path on. Were other rows mixed, the loss would differ in the second digit."""
    params, metrics = run(METHOD, accumulate, jax.devices()[:devices])
    for name in ("loss", "cross_entropy", "accuracy", "grad_norm"):
        np.testing.assert_allclose(metrics[name], whole[1][name], rtol=1e-4, err_msg=name)
    for name, value in tree.flatten(whole[0]).items():
        np.testing.assert_allclose(tree.get(params, name), value, atol=2e-4, err_msg=name)


def test_images_move_once_between_devices_and_in_eight_bits():
    """Partners lie on other devices. What is exchanged for them are bytes, and no device gathers the whole batch."""
    job = make(METHOD, Optim(), jax.devices(), 16)
    rows = {name: np.concatenate([value, value]) for name, value in BATCH.items()}
    text = job.step.lower(job.template, job.frozen, rows).compile().as_text()
    moved = [line for line in text.splitlines() if "32,32,3]" in line and " collective-permute" in line]
    assert moved
    assert all(" u8[" in line for line in moved)
    assert not [line for line in text.splitlines() if "32,32,3]" in line and " all-gather" in line]
    loops, _, entry = text.partition("\nENTRY")
    assert " all-reduce(" in entry
    assert not re.search(r" (all-reduce|all-gather|collective-permute)\(", loops)  # no turn of a loop waits for others


def test_layer_decay_takes_the_blocks_of_the_classifier():
    """Two blocks: the head and its norm have rate 1, block i has 0.75^(2 - i), embeddings 0.75^3."""
    factors = optim.multipliers(Optim(layer_decay=0.75), table.abstract(METHOD.model.table()))
    expected = {"head.weight": 1, "fc_norm.bias": 1, "blocks.1.mlp.fc1.weight": 0.75, "blocks.0.norm1.bias": 0.75**2}
    expected |= {"pos_embed": 0.75**3, "patch_embed.proj.weight": 0.75**3}
    assert {name: factors[name] for name in expected} == pytest.approx(expected)


@pytest.mark.parametrize(
    ("options", "why"), [({"label_smoothing": 1.0}, "label_smoothing is 1.0"), ({"mixup": -0.1}, "mixup is -0.1")]
)
def test_impossible_options_are_refused(options, why):
    with pytest.raises(BadInput, match=why):
        dataclasses.replace(METHOD, **options)


def test_a_row_without_a_partner_is_refused(params):
    with pytest.raises(BadInput, match=r"3 of them are odd; make global_batch / optim.accumulate even"):
        computed(METHOD, params, {name: value[:3] for name, value in BATCH.items()})
