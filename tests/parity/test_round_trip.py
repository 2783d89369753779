"""Official file -> our parameters -> official file: every byte of every tensor comes back, and PyTorch loads it."""

import jax
import numpy as np
import pytest
import torch
from segment_anything import sam_model_registry

from sadist_jax import tree
from sadist_jax.models.efficient_sam import EfficientSam
from sadist_jax.models.sam import Sam
from sadist_jax.nn import table
from sadist_jax.weights.pth import read_pth
from sadist_jax.weights.pth_writer import write_pth
from tests.parity import draw, official


def round_trip(model, path, target, wrapper=None) -> None:
    params = jax.device_put(table.from_reference(model.table(), read_pth(path)))
    write_pth(target, table.to_reference(model.table(), jax.device_get(params)), wrapper)


def same_bits(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    assert list(ours) == list(theirs)
    for name, tensor in theirs.items():
        assert ours[name].dtype == tensor.dtype
        assert ours[name].shape == tensor.shape, name
        assert ours[name].is_contiguous()
        assert ours[name].numpy().tobytes() == tensor.numpy().tobytes(), name


def test_vit_b_comes_back_bit_for_bit(tmp_path):
    sam = Sam.vit_b()
    state = draw.state(sam.table())
    odd = state["mask_decoder.iou_token.weight"][0]
    odd[:4] = -0.0, 1e-45, np.inf, -np.inf
    reference = official.released("vit_b", official.save(state, tmp_path / "drawn.pth"))
    first, second = tmp_path / "sam_vit_b.pth", tmp_path / "again.pth"
    torch.save(reference.state_dict(), first)  # the official order of names

    round_trip(sam, first, second)
    theirs, ours = (torch.load(path, weights_only=True) for path in (first, second))
    same_bits(dict(sorted(ours.items())), dict(sorted(theirs.items())))
    assert len(ours) == 314

    loaded = sam_model_registry["vit_b"](checkpoint=str(second))  # load_state_dict, strict
    same_bits(loaded.state_dict(), reference.state_dict())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_comes_back_bit_for_bit(tmp_path, dtype):
    sam = Sam.mini()
    state = {name: torch.from_numpy(value).to(dtype) for name, value in draw.state(sam.table()).items()}
    first, second = tmp_path / "first.pth", tmp_path / "second.pth"
    torch.save(state, first)
    params = table.from_reference(sam.table(), read_pth(first))
    assert {str(x.dtype) for x in tree.flatten(params).values()} == {str(dtype).removeprefix("torch.")}
    round_trip(sam, first, second)
    ours = torch.load(second, weights_only=True)
    assert ours.keys() == state.keys()
    assert all(torch.equal(ours[name].view(torch.int16), value.view(torch.int16)) for name, value in state.items())


def test_efficient_sam_comes_back_in_its_wrapper(tmp_path):
    model = EfficientSam.ti()
    state = {name: torch.from_numpy(value) for name, value in draw.state(model.table()).items()}
    first, second = tmp_path / "efficient_sam_vitt.pt", tmp_path / "again.pt"
    torch.save({"model": state}, first)
    round_trip(model, first, second, wrapper="model")
    ours = torch.load(second, weights_only=True)
    assert list(ours) == ["model"]
    assert len(ours["model"]) == 278
    same_bits(dict(sorted(ours["model"].items())), dict(sorted(state.items())))
