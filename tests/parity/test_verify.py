"""`python -m conversion.verify` on drawn files: small differences, and large ones where the picture is another."""

import PIL.Image
import pytest
import torch
from timm.models.vision_transformer import VisionTransformer

from conversion import verify
from sadist_jax.models.sam import Sam
from tests.parity import draw, official
from tests.parity.test_timm_vit import drawn


@pytest.fixture
def picture(photo, tmp_path):
    PIL.Image.fromarray(photo).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def save_vit(path, class_token):
    model = VisionTransformer(class_token=class_token, global_pool="", embed_dim=192, num_heads=3)
    torch.save(drawn(model).state_dict(), path)


def test_a_sam_as_released(picture, tmp_path, capsys):
    path = official.save(draw.state(Sam.vit_b().table()), tmp_path / "sam_vit_b.pth")
    assert verify.main([str(path), str(picture)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["stage", *(f"block{i}" for i in range(12)), "embedding", "logits", "iou"]  # fmt: skip # noqa: E501


@pytest.mark.parametrize("class_token", [False, True])
def test_a_plain_vit(class_token, picture, tmp_path):
    save_vit(tmp_path / "vit.pth", class_token)
    assert verify.main([str(tmp_path / "vit.pth"), str(picture)]) == 0


def test_a_difference_is_seen(picture, tmp_path, monkeypatch):
    path = tmp_path / "vit.pth"
    save_vit(path, class_token=False)
    original = verify.timm_tokens
    monkeypatch.setattr(verify, "timm_tokens", lambda source, model, frame, size: original(source, model, frame[:, ::-1].copy(), size))  # fmt: skip # noqa: E501
    assert verify.main([str(path), str(picture)]) == 1


def test_what_has_no_package_is_refused(picture, tmp_path, capsys):
    path = official.save(draw.state(Sam.mobile().table()), tmp_path / "mobile_sam.pt")
    assert verify.main([str(path), str(picture)]) == 2
    assert "there is no package that runs" in capsys.readouterr().err
