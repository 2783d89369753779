"""transformers' SamModel, ViT-B at full size: its folder into ours and ours into its folder, outputs compared."""

import jax
import numpy as np
import pytest
import torch
from transformers import SamConfig, SamModel

import sadist_jax
from conversion import hugging_face
from conversion.renaming import rename
from sadist_jax import tree
from sadist_jax.models.sam import Sam
from sadist_jax.ops.pixels import normalize
from tests.parity import draw, official
from tests.parity.cases import batch, cases

EMBEDDING, LOGITS, IOU = 1e-4, 5e-4, 1e-4  # as in test_sam.py
SIDE, MASKS, SLOTS = 1024, 256, 5


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What SamModel.save_pretrained writes, every tensor drawn."""
    path = tmp_path_factory.mktemp("hugging_face") / "sam-vit-base"
    state = rename(draw.state(Sam.vit_b().table()), hugging_face.NAMES, "drawn")
    with torch.device("meta"):
        model = SamModel(SamConfig())
    state[hugging_face.TWIN] = state[hugging_face.SHARED]
    model.load_state_dict({name: torch.from_numpy(x) for name, x in state.items()}, strict=True, assign=True)
    model.save_pretrained(path)
    return path


def ask(model: SamModel, embedding: np.ndarray, case) -> tuple[np.ndarray, np.ndarray]:
    """Logits (4, h, w) and IoU (4,): the single mask, then the three."""
    given = {
        "input_points": None if case.points is None else official.one(case.points)[None],
        "input_labels": None if case.points is None else official.one(case.labels)[None],
        "input_boxes": None if case.box is None else official.one(case.box)[None],
        "input_masks": None if case.mask is None else official.one(case.mask[None]),
        "image_embeddings": torch.from_numpy(embedding).permute(0, 3, 1, 2),
    }
    with torch.no_grad():
        answers = [model(**given, multimask_output=several) for several in (False, True)]
    masks, iou = (
        torch.cat([a[key] for a in answers], -3 if key == "pred_masks" else -1) for key in ("pred_masks", "iou_scores")
    )
    return masks[0, 0].numpy(), iou[0, 0].numpy()


def test_a_folder_of_transformers_gives_the_same_outputs(folder, photo):
    reference = SamModel.from_pretrained(folder).eval()
    frame, size = official.fit(photo, SIDE)
    assert hugging_face.reads(folder)
    sam, params = hugging_face.read(folder)
    assert sam == Sam.vit_b()
    pixels = (frame - np.array(hugging_face.MEAN)) / np.array(hugging_face.STD)
    pixels[:, size[0] :] = pixels[:, :, size[1] :] = 0
    with torch.no_grad():
        theirs = official.last(reference.get_image_embeddings(torch.from_numpy(pixels).float().permute(0, 3, 1, 2)))
    ours = np.asarray(jax.jit(sam.encode)(params, frame, np.array([size], np.int32)))
    print(f"embedding {np.abs(ours - theirs).max():.1e}")
    assert np.abs(ours - theirs).max() < EMBEDDING

    prompts = cases(SIDE, MASKS)
    logits, iou = jax.jit(sam.decode)(params, theirs, batch(list(prompts.values()), SLOTS))
    for i, (name, case) in enumerate(prompts.items()):
        their_logits, their_iou = ask(reference, theirs, case)
        print(f"{name}: {np.abs(logits[0, i] - their_logits).max():.1e}")
        assert np.abs(logits[0, i] - their_logits).max() < LOGITS, name
        assert np.abs(iou[0, i] - their_iou).max() < IOU, name


def test_what_we_write_is_what_transformers_wrote(folder, tmp_path):
    """Loaded by SamModel.from_pretrained, with nothing missing and nothing left over."""
    sam, params = hugging_face.read(folder)
    hugging_face.write(tmp_path / "ours", sam, params)
    ours, info = SamModel.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    theirs = SamModel.from_pretrained(folder)
    assert ours.config.vision_config.to_dict() == theirs.config.vision_config.to_dict()
    for name, value in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[name], value), name


@pytest.mark.parametrize("size", ["vit_b", "vit_l", "vit_h"])
def test_the_config_makes_a_model_of_that_size(size):
    """Shapes say most; heads and which blocks are global change no shape."""
    sam = getattr(Sam, size)()
    with torch.device("meta"):
        model = SamModel(SamConfig(**hugging_face.config(sam)))
    expected = {name: leaf.reference_shape for name, leaf in tree.flatten(sam.table()).items()}
    expected = rename(expected, hugging_face.NAMES, "ours")
    expected[hugging_face.TWIN] = expected[hugging_face.SHARED]
    assert {name: tuple(x.shape) for name, x in model.state_dict().items()} == expected
    layers = model.vision_encoder.layers
    assert tuple(i for i, layer in enumerate(layers) if not layer.window_size) == sam.image_encoder.global_blocks
    assert {layer.attn.num_attention_heads for layer in layers} == {sam.image_encoder.heads}


def test_a_model_of_another_size_gives_the_same_outputs_there(photo, tmp_path):
    """sam_mini: nothing in its config is a default of transformers."""
    sam, params = sadist_jax.load("sam_mini")
    hugging_face.write(tmp_path / "mini", sam, params)
    theirs = SamModel.from_pretrained(tmp_path / "mini").eval()
    frame, size = official.fit(photo, sam.image_size)
    pixels = np.array(normalize(frame, np.array([size], np.int32)))
    with torch.no_grad():
        embedding = official.last(theirs.get_image_embeddings(torch.from_numpy(pixels).permute(0, 3, 1, 2)))
    ours = np.asarray(jax.jit(sam.encode)(params, frame, np.array([size], np.int32)))
    assert np.abs(ours - embedding).max() < EMBEDDING
    prompts = cases(sam.image_size, 4 * sam.image_encoder.grid)
    logits, iou = jax.jit(sam.decode)(params, embedding, batch(list(prompts.values()), SLOTS))
    for i, (name, case) in enumerate(prompts.items()):
        their_logits, their_iou = ask(theirs, embedding, case)
        assert np.abs(logits[0, i] - their_logits).max() < LOGITS, name
        assert np.abs(iou[0, i] - their_iou).max() < IOU, name
