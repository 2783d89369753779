import re

import jax
import numpy as np
import pytest

from benchmarks import flops, programs, weak_step
from sadist_jax.adapt import lora
from sadist_jax.data.weak_frames import WeakFrames
from sadist_jax.models.vit_det import VitDet
from sadist_jax.nn.table import count


@pytest.mark.parametrize("tiny", [False, True])
def test_titles_say_how_many_parameters_train(tiny):
    for case in weak_step.cases(tiny=tiny):
        model = weak_step.make_method(case.options["size"], case.options["chunk"]).model
        assert model.lora is not None
        _, adapters = lora.split(lora.table(model.sam.table(), model.lora))
        (said,) = re.findall(r"([\d,]+) parameters train", case.title)
        assert int(said.replace(",", "")) == count(adapters)
        assert f"{model.sam.image_size} px" in case.title


def test_the_batch_is_like_one_of_weak_frames():
    rows = weak_step.make_rows("mini", 5)
    real = WeakFrames(256, instances=5).filler()
    for name in rows.keys() - {"index"}:
        assert (rows[name].shape[1:], rows[name].dtype) == (np.shape(real[name]), np.asarray(real[name]).dtype), name
    assert (np.diff(rows["points"], axis=2) > 0).all()
    height, width = rows["size"][0]
    assert not rows["image"][:, height:].any()
    assert not rows["strong"][:, :, width:].any()


def test_its_program_lowers_with_the_shapes_that_it_is_run_with():
    work = programs.weak_lora("mini", 1)
    shapes = jax.tree.map(lambda x: (x.shape, x.dtype), work.shapes)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), work.make()) == shapes
    work.step.lower(*work.shapes)
    encoder = weak_step.make_method("mini", 8).model.sam.image_encoder
    assert isinstance(encoder, VitDet)
    assert work.flops > 5 * flops.vit_det(encoder, 256)
