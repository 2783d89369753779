"""MobileSAM at full size: the same file, photo and prompts through PyTorch and through ours."""

import jax
import numpy as np
import pytest

import sadist_jax
from sadist_jax.models.sam import Sam
from sadist_jax.ops.pixels import normalize
from sadist_jax.weights.pth import read_pth
from tests.parity import draw, mobile, official
from tests.parity.cases import batch, cases

SIDE, MASKS, SLOTS = 1024, 256, 5
EMBEDDING, LOGITS, IOU, STAGE = 1e-4, 5e-4, 1e-4, 1e-4  # as for SAM, in test_sam.py


@pytest.fixture(scope="module")
def state():
    return draw.state(Sam.mobile().table())


@pytest.fixture(scope="module")
def path(state, tmp_path_factory):
    """Under the names and in the format of mobile_sam.pt."""
    return official.save(state, tmp_path_factory.mktemp("mobile") / "mobile_sam.pt")


def test_it_agrees_at_every_stage_and_for_all_prompts(state, path, photo):
    reference, prompts = mobile.build(Sam.mobile(), state), cases(SIDE, MASKS)
    frame, size = official.fit(photo, SIDE)
    names = {"patch": "patch_embed"} | {f"stage{i}": f"stages.{i}" for i in range(4)}
    with official.recording(reference, *(f"image_encoder.body.{name}" for name in names.values())) as recorded:
        embedding = official.encode(reference, frame, size)
    stages = {ours: official.last(recorded[f"image_encoder.body.{theirs}"]) for ours, theirs in names.items()}

    sam, params = sadist_jax.load(path)
    assert sam == Sam.mobile()
    content = np.array([size], np.int32)
    ours, aux = jax.jit(lambda p, x, s: sam.image_encoder.apply(p, normalize(x, s)))(
        params["image_encoder"], frame, content
    )
    for name, expected in stages.items():
        print(f"{name}: {np.abs(aux[name] - expected).max():.1e} of std {expected.std():.1f}")
    print(f"embedding: {np.abs(ours - embedding).max():.1e} of std {embedding.std():.1f}")
    assert all(np.abs(aux[name] - expected).max() < STAGE for name, expected in stages.items())
    assert embedding.std() == pytest.approx(1, abs=0.3)
    assert np.abs(ours - embedding).max() < EMBEDDING

    logits, iou = jax.jit(sam.decode)(params, embedding, batch(list(prompts.values()), SLOTS))
    for i, (name, case) in enumerate(prompts.items()):
        theirs, their_iou = official.decode(reference, embedding, case)
        assert np.abs(logits[0, i] - theirs).max() < LOGITS, name
        assert np.abs(iou[0, i] - their_iou).max() < IOU, name


def test_the_file_comes_back_bit_for_bit(path, tmp_path):
    sam, params = sadist_jax.load(path)
    sadist_jax.save(tmp_path / "again.pt", sam, params)
    theirs, ours = read_pth(path), read_pth(tmp_path / "again.pt")
    assert ours.keys() == theirs.keys()
    assert all(ours[n].dtype == x.dtype and ours[n].tobytes() == x.tobytes() for n, x in theirs.items())
