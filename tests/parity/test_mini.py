"""SAM's mini size: the official classes, built with its sizes, read our file strictly and agree, gradients included."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from sadist_jax import tree
from sadist_jax.models.sam import Sam
from sadist_jax.nn import table
from sadist_jax.weights.pth_writer import write_pth
from tests.parity import draw, official
from tests.parity.cases import batch, cases

SIDE, MASKS, SLOTS = 256, 128, 5
EMBEDDING, LOGITS, GRADIENT = 1e-4, 5e-4, 1e-4  # the last relative to the largest element of a module's gradients
PROMPTS = cases(SIDE, MASKS)


class Mini(NamedTuple):
    sam: Sam
    params: Any
    model: torch.nn.Module
    frame: np.ndarray
    size: tuple[int, int]


@pytest.fixture(scope="module")
def mini(photo, tmp_path_factory) -> Mini:
    sam = Sam.mini()
    params = table.from_reference(sam.table(), draw.state(sam.table()))
    path = tmp_path_factory.mktemp("mini") / "sam_mini.pth"
    write_pth(path, table.to_reference(sam.table(), params))
    model = official.build(sam)
    model.load_state_dict(torch.load(path, weights_only=True), strict=True)
    return Mini(sam, jax.device_put(params), model, *official.fit(photo, SIDE))


def test_official_classes_agree(mini):
    size = jnp.array([mini.size], jnp.int32)
    embedding = jax.jit(mini.sam.encode)(mini.params, mini.frame, size)
    expected = official.encode(mini.model, mini.frame, mini.size)
    np.testing.assert_allclose(embedding, expected, atol=EMBEDDING, rtol=0)

    logits, iou = jax.jit(mini.sam.decode)(mini.params, embedding, batch(list(PROMPTS.values()), SLOTS))
    for i, (name, case) in enumerate(PROMPTS.items()):
        theirs, their_iou = official.decode(mini.model, expected, case)
        np.testing.assert_allclose(logits[0, i], theirs, atol=LOGITS, rtol=0, err_msg=name)
        np.testing.assert_allclose(iou[0, i], their_iou, atol=LOGITS, rtol=0, err_msg=name)


def test_gradients_agree(mini):
    """d/d(every tensor) of one number made of all outputs, over all kinds of prompts; the Fourier matrix included."""
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((len(PROMPTS), 4, MASKS, MASKS), np.float32) / MASKS
    iou_weights = rng.standard_normal((len(PROMPTS), 4), np.float32)
    prompts = batch(list(PROMPTS.values()), SLOTS)

    def ours(params):
        logits, aux = mini.sam.apply(params, mini.frame, prompts, size=jnp.array([mini.size]))
        return jnp.vdot(logits, weights) + jnp.vdot(aux["iou"], iou_weights)

    value, gradients = jax.jit(jax.value_and_grad(ours))(mini.params)
    their_value, theirs = official_gradients(mini, weights, iou_weights)
    assert float(value) == pytest.approx(their_value, rel=1e-4)
    gradients = table.to_reference(mini.sam.table(), gradients)
    assert set(gradients) == set(theirs)
    # the gradient of a key's bias is zero but for rounding (softmax does not see it), so a module sets the scale
    scales = {}
    for name, gradient in theirs.items():
        module = name.rpartition(".")[0]
        scales[module] = max(scales.get(module, 0), np.abs(gradient).max())
    assert min(scales.values()) > 1e-3, f"no gradient, so this test sees nothing: {min(scales, key=scales.get)}"
    worst = {n: np.abs(gradients[n] - g).max() / scales[n.rpartition(".")[0]] for n, g in theirs.items()}
    name = max(worst, key=worst.get)
    print(f"{len(worst)} gradients, the worst is {name}: {worst[name]:.1e}")
    assert worst[name] < GRADIENT, name


def official_gradients(mini: Mini, weights: np.ndarray, iou_weights: np.ndarray) -> tuple[float, dict[str, np.ndarray]]:
    model = mini.model
    tensors = dict(model.state_dict(keep_vars=True))
    for tensor in tensors.values():
        tensor.requires_grad_(True)
    height, width = mini.size
    image = model.preprocess(torch.from_numpy(mini.frame[:, :height, :width]).permute(0, 3, 1, 2))
    embedding, total = model.image_encoder(image), torch.zeros(())
    for case, weight, iou_weight in zip(PROMPTS.values(), weights, iou_weights, strict=True):
        logits, iou = official.predict(model, embedding, case)
        total = total + (logits * torch.from_numpy(weight)).sum() + (iou * torch.from_numpy(iou_weight)).sum()
    gradients = torch.autograd.grad(total, list(tensors.values()))
    for tensor in tensors.values():
        tensor.requires_grad_(False)
    return total.item(), {name: g.numpy() for name, g in zip(tensors, gradients, strict=True)}


def test_names_and_shapes_are_the_official_ones(mini):
    ours = {name: leaf.reference_shape for name, leaf in tree.flatten(mini.sam.table()).items()}
    assert ours == {name: tuple(tensor.shape) for name, tensor in mini.model.state_dict().items()}
