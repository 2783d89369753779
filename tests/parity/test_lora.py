"""An adapted SAM in the official classes: fused into a .pth, and, unfused, with the update written beside its qkv.

Sizes are those of the mini SAM, which the official code builds; base and adapters are drawn.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from conversion import __main__ as conversion
from sadist_jax import adapters, pretrained
from sadist_jax.adapt import lora
from sadist_jax.adapt.lora import Lora
from sadist_jax.models.sam import Sam
from tests.adapt import tiny
from tests.parity import official
from tests.parity.cases import batch, cases

SIDE, MASKS, SLOTS = 256, 128, 5
LOGITS = 1e-3  # largest difference; the standard deviation of these weights' logits is about 0.5
PROMPTS = cases(SIDE, MASKS)
SPEC = Lora(alpha=3)  # WeSAM's but for the scale, 0.75


class Adapted(NamedTuple):
    sam: Sam
    base: Any
    adapters: Any
    frame: np.ndarray
    size: tuple[int, int]
    logits: np.ndarray  # ours, unfused

    def official(self, path) -> torch.nn.Module:
        """The official classes with the weights of a file, loaded strictly."""
        model = official.build(self.sam)
        model.load_state_dict(torch.load(path, weights_only=True), strict=True)
        return model

    def distance(self, model: torch.nn.Module) -> float:
        """Largest difference of a mask logit, over all prompts and mask tokens."""
        embedding = official.encode(model, self.frame, self.size)
        theirs = np.stack([official.decode(model, embedding, case)[0] for case in PROMPTS.values()])
        assert theirs.shape == self.logits.shape
        return float(np.abs(self.logits - theirs).max())


@pytest.fixture(scope="module")
def adapted(photo) -> Adapted:
    sam = Sam.mini()
    base, trained = tiny.params(sam), tiny.adapters(sam, SPEC)
    frame, size = official.fit(photo, SIDE)
    prompts = batch(list(PROMPTS.values()), SLOTS)
    logits, _ = jax.jit(sam.apply)(lora.attach(base, trained), frame, prompts, size=jnp.array([size], jnp.int32))
    return Adapted(sam, base, trained, frame, size, np.asarray(logits[0]))


def test_the_fused_file_gives_the_same_masks(adapted, tmp_path):
    base, trained, fused = (str(tmp_path / name) for name in ("base.pth", "x.safetensors", "fused.pth"))
    pretrained.save(base, adapted.sam, adapted.base)
    adapters.save(trained, adapted.sam, lora.attach(adapted.base, adapted.adapters), SPEC)
    assert conversion.main([base, fused, "--adapter", trained]) == 0
    assert adapted.logits.std() == pytest.approx(0.5, abs=0.1)
    differences = {path: adapted.distance(adapted.official(path)) for path in (fused, base)}
    print(f"fused {differences[fused]:.1e}, base {differences[base]:.1e}")
    assert differences[fused] < LOGITS
    assert differences[base] > 100 * LOGITS  # the adapters do something


def beside(model: torch.nn.Module, trained: Any, order: str) -> torch.nn.Module:
    """Adds scale * x A B to thirds of every qkv's output, as Sam_LoRA does; `order`: whose update each third gets."""

    def add(update):
        def hook(module, arguments, output):
            (x,) = arguments
            for third, part in enumerate(order):
                if part in update:
                    a, b, scale = (torch.from_numpy(np.array(update[part][name])) for name in ("a", "b", "scale"))
                    output.chunk(3, -1)[third].add_(scale * (x @ a) @ b)
            return output

        return hook

    for i, block in enumerate(model.image_encoder.blocks):
        block.attn.qkv.register_forward_hook(add(trained["image_encoder"]["blocks"][str(i)]["attn"]["qkv"]["lora"]))
    return model


@pytest.mark.parametrize(("order", "agrees"), [("qkv", True), ("qvk", False)])
def test_updates_beside_the_official_layers_give_the_same_masks(adapted, tmp_path, order, agrees):
    """The second order is a mistake, which the comparison must see: the keys get what is for the values."""
    pretrained.save(tmp_path / "base.pth", adapted.sam, adapted.base)
    difference = adapted.distance(beside(adapted.official(tmp_path / "base.pth"), adapted.adapters, order))
    print(f"{order}: {difference:.1e}")
    assert (difference < LOGITS) == agrees
