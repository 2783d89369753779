"""Files of adapters: what comes back, what they are refused for, and the way to an official file."""

import dataclasses
import json

import jax
import numpy as np
import pytest

import sadist_jax
from conversion import __main__ as conversion
from sadist_jax import adapters, tree
from sadist_jax.adapt import lora
from sadist_jax.adapt.lora import Lora
from sadist_jax.errors import BadInput
from sadist_jax.models.sam import Sam
from sadist_jax.weights import safetensors
from tests.adapt import tiny

SPEC = Lora((r".*\.attn\.qkv", r"image_encoder\.neck\.2"), rank=3, alpha=1.5)


@pytest.fixture
def saved(tmp_path):
    """(path, base, adapters) of a tiny SAM."""
    base, trained = tiny.params(tiny.SAM), tiny.adapters(tiny.SAM, SPEC)
    adapters.save(tmp_path / "x.safetensors", tiny.SAM, lora.attach(base, trained), SPEC)
    return tmp_path / "x.safetensors", base, trained


def same(ours, expected):
    assert tree.flatten(ours).keys() == tree.flatten(expected).keys()
    jax.tree.map(np.testing.assert_array_equal, ours, expected)


def test_adapters_and_their_spec_come_back(saved):
    path, base, trained = saved
    spec, loaded = adapters.load(path, base)
    assert spec == SPEC
    assert hash(spec) == hash(SPEC)
    same(loaded, trained)
    assert {x.dtype for x in jax.tree.leaves(loaded)} == {np.dtype(np.float32)}
    other, again = adapters.load(path, lora.attach(base, trained))  # to swap: adapters are no part of the base
    assert other == spec
    same(again, trained)


def test_the_file_holds_the_adapters_alone(tmp_path):
    model = Sam.mini()
    adapters.save(tmp_path / "x.safetensors", model, tiny.adapted(model, Lora()), Lora())
    names = safetensors.read(tmp_path / "x.safetensors")[0].keys()
    assert len(names) == 6 * 2 * 3
    assert all(".attn.qkv.lora." in name for name in names)
    numbers = 6 * 2 * (2 * 192 * 4 + 1)
    assert 0 < (tmp_path / "x.safetensors").stat().st_size - 4 * numbers < 10_000  # the header


def test_another_base_is_refused_even_by_one_bit(saved):
    path, base, _ = saved
    flat = tree.flatten(base)
    bias = flat["image_encoder.neck.1.bias"].copy()
    bias.view(np.uint32)[3] ^= 1
    mine, theirs = r"holds adapters of a Sam with weights [0-9a-f]{12}", r"those of sam\.pth are [0-9a-f]{12}"
    with pytest.raises(BadInput, match=rf"x\.safetensors {mine}, and {theirs}; give the weights that") as error:
        adapters.load(path, tree.unflatten(flat | {"image_encoder.neck.1.bias": bias}), "sam.pth")
    assert "\n" not in str(error.value)
    with pytest.raises(BadInput, match="the model given"):
        adapters.load(path, tiny.params(tiny.EFFICIENT))


def test_a_flipped_bit_is_found(saved):
    path, base, _ = saved
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(BadInput, match="is damaged: its adapters are not those that were saved; copy it again"):
        adapters.load(path, base)


def test_other_files_are_refused(saved, tmp_path):
    path, base, trained = saved
    sadist_jax.save(tmp_path / "base.safetensors", tiny.SAM, base)
    with pytest.raises(BadInput, match=r"base\.safetensors is no file of adapters"):
        adapters.load(tmp_path / "base.safetensors", base)
    with pytest.raises(BadInput, match=r"x\.safetensors holds adapters and no model; give their base"):
        sadist_jax.load(path)
    with pytest.raises(BadInput, match=r"nowhere\.safetensors does not exist"):
        adapters.load(tmp_path / "nowhere.safetensors", base)
    with pytest.raises(BadInput, match=r"the parameters for .*y\.pth have adapters; fuse them"):
        sadist_jax.save(tmp_path / "y.pth", tiny.SAM, lora.attach(base, trained))
    with pytest.raises(BadInput, match=r"y\.pth must end in \.safetensors"):
        adapters.save(tmp_path / "y.pth", tiny.SAM, lora.attach(base, trained), SPEC)
    assert not (tmp_path / "y.pth").exists()


@pytest.mark.parametrize("spec", [dataclasses.replace(SPEC, rank=2), Lora(), Lora((r".*proj",))])
def test_a_spec_that_did_not_make_them_is_refused(saved, tmp_path, spec):
    _, base, trained = saved
    with pytest.raises(BadInput, match=r"y\.safetensors are not those of the Lora given.*\n(.*\n)*.*neck|wrong shape"):
        adapters.save(tmp_path / "y.safetensors", tiny.SAM, lora.attach(base, trained), spec)
    assert not (tmp_path / "y.safetensors").exists()


@pytest.mark.parametrize(
    ("field", "text", "why"),
    [
        ("lora", '{"rank": 5}', r"is damaged: its adapters are not those that it describes; copy it again:\n"),
        ("lora", '{"colour": 5}', "describes its adapters in a way that this version .*colour"),
        ("lora", "[", "describes its adapters in a way"),
        ("fields", '{"class": "Vit"}', "describes a Vit and no whole model"),
    ],
)
def test_a_description_that_is_not_understood_is_refused(saved, field, text, why):
    path, base, _ = saved
    state, metadata = safetensors.read(path)
    safetensors.write(path, state, metadata | {field: text})
    with pytest.raises(BadInput, match=why):
        adapters.load(path, base)


def test_fields_that_a_spec_lacks_are_the_default(saved):
    """So that files outlive a new field."""
    path, base, trained = saved
    state, metadata = safetensors.read(path)
    fields = json.loads(metadata["lora"])
    assert fields.pop("parts") == ["q", "v"]
    safetensors.write(path, state, metadata | {"lora": json.dumps(fields)})
    same(adapters.load(path, base)[1], trained)


def test_a_base_is_loaded_with_any_number_of_adapters(saved, tmp_path):
    path, base, trained = saved
    other = Lora((r"mask_decoder\.transformer\..*q_proj", r"image_encoder\.blocks\.0\.attn\.qkv"), ("q",), rank=2)
    second = tiny.adapters(tiny.SAM, other, seed=1)
    adapters.save(tmp_path / "y.safetensors", tiny.SAM, lora.attach(base, second), other)
    sadist_jax.save(tmp_path / "base.pth", tiny.SAM, base)
    same(adapters.load_adapted(tmp_path / "base.pth")[1], base)
    model, params = adapters.load_adapted(tmp_path / "base.pth", [path])
    assert model == tiny.SAM
    same(params, lora.attach(base, trained))
    _, both = adapters.load_adapted(tmp_path / "base.pth", [path, tmp_path / "y.safetensors"])
    one, two, whole = (tree.flatten(lora.fuse(lora.attach(base, x))) for x in (trained, second, lora.split(both)[1]))
    for name, value in tree.flatten(base).items():  # updates add up
        np.testing.assert_allclose(whole[name] - value, (one[name] - value) + (two[name] - value), atol=1e-5)
    assert lora.split(both)[0].keys() == base.keys()
    sadist_jax.save(tmp_path / "other.pth", tiny.SAM, lora.fuse(params))
    with pytest.raises(BadInput, match=r"those of .*other\.pth are"):
        adapters.load_adapted(tmp_path / "other.pth", [path])


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_conversion_fuses_a_file_into_its_base(saved, tmp_path, ending):
    path, base, trained = saved
    sadist_jax.save(tmp_path / "base.pth", tiny.SAM, base)
    target = tmp_path / f"fused.{ending}"
    assert conversion.main([str(tmp_path / "base.pth"), str(target), "--adapter", str(path)]) == 0
    model, params = sadist_jax.load(target)
    assert model == tiny.SAM
    same(params, lora.fuse(lora.attach(base, trained)))


def test_conversion_refuses_adapters_of_another_base(saved, tmp_path, capsys):
    path, _, _ = saved
    assert conversion.main(["sam_mini", str(tmp_path / "y.pth"), "--adapter", str(path)]) == 2
    assert "those of sam_mini are" in capsys.readouterr().err
    assert not (tmp_path / "y.pth").exists()
