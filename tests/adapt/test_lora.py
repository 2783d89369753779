"""Which leaves LoRA adds, how they start, and that the fused kernel is W + scale * A B in every model here."""

import jax
import numpy as np
import pytest

from sadist_jax import tree
from sadist_jax.adapt import lora
from sadist_jax.adapt.lora import Lora
from sadist_jax.errors import BadInput
from sadist_jax.models.classifier import Classifier
from sadist_jax.models.efficient_sam import EfficientSam
from sadist_jax.models.sam import Sam
from sadist_jax.models.vit import Vit
from sadist_jax.nn import table
from tests.adapt import tiny

QKV = r".*\.attn\.qkv"
EVERYTHING = (r"image_encoder\.(?!.*(conv2|local_conv)\.c).*", r"mask_decoder\..*")  # but depthwise convolutions


def added(model, spec):
    return tree.flatten(lora.split(lora.table(model.table(), spec))[1])


def shapes_of(leaves):
    return {name: leaf.shape for name, leaf in tree.flatten(leaves).items()}


def test_wesam_trains_147456_numbers_of_vit_b():
    """12 blocks, q and v, 768 x 4 and 4 x 768 (Zhang et al. 2024; JamesQFreeman/Sam_LoRA)."""
    whole = lora.table(Sam.vit_b().table(), Lora())
    base, adapters = lora.split(whole)
    assert table.count(adapters) == 12 * 2 * (768 * 4 + 4 * 768) == 147_456
    assert shapes_of(base) == shapes_of(Sam.vit_b().table())
    shapes = {name: shape for name, shape in shapes_of(adapters).items() if ".blocks.7." in name}
    layer = "image_encoder.blocks.7.attn.qkv.lora"
    assert shapes == {
        f"{layer}.q.a": (768, 4), f"{layer}.q.b": (4, 768), f"{layer}.q.scale": (),
        f"{layer}.v.a": (768, 4), f"{layer}.v.b": (4, 768), f"{layer}.v.scale": (),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("model", "spec", "count"),
    [
        (Sam.vit_h(), Lora(), 32 * 2 * 2 * 1280 * 4),
        (Sam.mini(), Lora(parts=("all",)), 6 * 4 * (192 + 3 * 192)),
        (Sam.mini(), Lora(parts=("k",), rank=2), 6 * 2 * (192 + 192)),
        # TinyViT: 2 + 6 + 2 blocks of 128, 160 and 320 channels, whose 4, 5 and 10 heads make a q and a v of that width
        (Sam.mobile(), Lora((QKV,)), 4 * 2 * 2 * (2 * 128 + 6 * 160 + 2 * 320)),
        (EfficientSam.ti(), Lora((QKV, r".*\.attn\.proj"), rank=3), 12 * 3 * 3 * (192 + 192)),
        (Classifier(Vit.mini()), Lora((r"head",), rank=1), 128 + 1000),
        (Sam.vit_b(), Lora((r"image_encoder\.neck\.2", r"image_encoder\.neck\.0")), 4 * (9 * 256 + 256 + 768 + 256)),
        (Sam.vit_b(), Lora((r"mask_decoder\.output_upscaling\.0",)), 4 * (256 + 4 * 64)),
        (Sam.vit_b(), Lora((r".*transformer\.layers\.1\.self_attn\.[qv]_proj",)), 2 * 4 * (256 + 256)),
    ],
)
def test_other_models_parts_and_kinds_of_layers(model, spec, count):
    _, adapters = lora.split(lora.table(model.table(), spec))
    assert table.count(adapters) == count


def test_the_start_changes_nothing_and_is_that_of_a_linear_layer():
    model = Sam.mini()
    key, leaves = jax.random.key(0), lora.table(model.table(), Lora(alpha=2))
    base, adapters = lora.split(table.init(leaves, key))
    jax.tree.map(np.testing.assert_array_equal, base, model.init(key))
    flat, roles = tree.flatten(adapters), tree.flatten(leaves)
    for name, value in flat.items():
        if name.endswith(".a"):  # uniform up to 1 / sqrt(inputs): variance bound^2 / 3
            assert np.abs(value).max() <= 192**-0.5
            assert np.abs(value).max() > 0.98 * 192**-0.5
            assert 3 * 192 * np.square(value).mean() == pytest.approx(1, abs=0.1)
        else:
            np.testing.assert_array_equal(value, 0.5 if name.endswith(".scale") else 0)
            assert roles[name].role == ("buffer" if name.endswith(".scale") else "weight")
    assert len({value.tobytes() for name, value in jax.device_get(flat).items() if name.endswith(".a")}) == 12
    for one, other in zip(jax.tree.leaves(lora.fuse(lora.attach(base, adapters))), jax.tree.leaves(base), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_convolution_starts_by_all_that_an_output_sees():
    init = added(Sam.mini(), Lora((r"image_encoder\.neck\.2",)))["image_encoder.neck.2.lora.all.a"].init
    a = np.asarray(init(jax.random.key(0), (3, 3, 128, 4)))
    assert 0.98 < np.abs(a).max() * (9 * 128) ** 0.5 <= 1


Q_AND_V = Lora((QKV,), rank=3, alpha=2.25)
SOME_BLOCKS = Lora((r"image_encoder\.(blocks|layers)\.1\..*qkv",), ("k",), rank=2)
ALL_KERNELS = Lora(EVERYTHING, rank=2, alpha=1)


@pytest.mark.parametrize(
    ("model", "spec"),
    [
        (tiny.SAM, Q_AND_V), (tiny.SAM, ALL_KERNELS), (tiny.REMAT, Q_AND_V), (tiny.REMAT, SOME_BLOCKS),
        (tiny.MOBILE, Q_AND_V), (tiny.MOBILE, ALL_KERNELS), (tiny.EFFICIENT, ALL_KERNELS),
    ],
)  # fmt: skip
def test_fused_and_unfused_agree(model, spec):
    base, adapters = tiny.params(model), tiny.adapters(model, spec)
    adapted = lora.attach(base, adapters)
    fused = lora.fuse(adapted)
    assert tree.flatten(fused).keys() == tree.flatten(base).keys()
    ours, expected = tiny.logits(model, adapted), tiny.logits(model, fused)
    assert np.abs(ours - tiny.logits(model, base)).max() > 1e-2  # the adapters do something
    scale = np.abs(expected).max()
    print(f"largest difference {np.abs(ours - expected).max() / scale:.1e} of the largest logit, {scale:.1f}")
    np.testing.assert_allclose(ours, expected, atol=1e-5 * scale, rtol=0)


def test_a_fused_kernel_is_the_formula():
    spec = Lora((QKV, r"image_encoder\.neck\.2", r"image_encoder.*\.lin1"), ("q", "v"), rank=3, alpha=6)
    base, adapters = tiny.params(tiny.SAM), tiny.adapters(tiny.SAM, spec)
    fused, flat = tree.flatten(lora.fuse(lora.attach(base, adapters))), tree.flatten(adapters)
    base = tree.flatten(base)

    def change(name):
        return np.float64(fused[f"{name}.weight"]) - base[f"{name}.weight"]

    def product(name, i, o):
        return 2 * sum(float(flat[f"{name}.a"][(*i, r)]) * float(flat[f"{name}.b"][r, o]) for r in range(3))

    qkv, neck, lin1 = "image_encoder.blocks.1.attn.qkv", "image_encoder.neck.2", "image_encoder.blocks.0.mlp.lin1"
    assert change(qkv)[5, 7] == pytest.approx(product(f"{qkv}.lora.q", (5,), 7), abs=1e-6)
    assert change(qkv)[5, 64 + 7] == pytest.approx(product(f"{qkv}.lora.v", (5,), 7), abs=1e-6)
    np.testing.assert_array_equal(change(qkv)[:, 32:64], 0)
    assert change(neck)[2, 0, 9, 11] == pytest.approx(product(f"{neck}.lora.all", (2, 0, 9), 11), abs=1e-6)
    assert change(lin1)[3, 120] == pytest.approx(product(f"{lin1}.lora.all", (3,), 120), abs=1e-6)
    assert {name for name in base if np.any(fused[name] != base[name])} == {
        f"{name}.weight" for name in (qkv, qkv.replace("1", "0"), neck, lin1, lin1.replace("0", "1"))
    }
    assert all(fused[name].dtype == value.dtype for name, value in base.items())


def test_the_key_of_a_head_of_tiny_vit_stays_as_it_was():
    """Its qkv holds, head by head, q, k and v of 4 channels each; a third of the columns is no q."""
    base = tiny.params(tiny.MOBILE)
    fused = lora.fuse(lora.attach(base, tiny.adapters(tiny.MOBILE, Lora((QKV,)))))
    before, after = (
        tree.get(x, "image_encoder.layers.1.blocks.0.attn.qkv.weight").reshape(8, 2, 3, 4) for x in (base, fused)
    )
    assert (np.abs(after - before).max((0, 3)) > 0).tolist() == [[True, False, True]] * 2


def test_stacked_adapters_add_up():
    spec, other = Lora((QKV,), alpha=8), Lora((QKV, r"image_encoder\.neck\.0"), ("v",), rank=2)
    base = tiny.params(tiny.SAM)
    one, two = (tiny.adapters(tiny.SAM, s, seed=i) for i, s in enumerate((spec, other)))
    both = lora.stack(one, two, weights=(0.5, -2))
    assert tree.get(both, "image_encoder.blocks.0.attn.qkv.lora.v.a").shape == (32, 6)
    changed = [tree.flatten(lora.fuse(lora.attach(base, x))) for x in (one, two, both)]
    for name, value in tree.flatten(base).items():
        first, second, sum_of_both = (np.float64(x[name]) - value for x in changed)
        np.testing.assert_allclose(sum_of_both, 0.5 * first - 2 * second, atol=2e-6, err_msg=name)
    attached = lora.attach(base, both)
    np.testing.assert_allclose(
        tiny.logits(tiny.SAM, attached), tiny.logits(tiny.SAM, lora.fuse(attached)), atol=2e-5, rtol=1e-4
    )


def test_adapters_are_swapped_and_not_mixed():
    base = tiny.params(tiny.SAM)
    one, two = (tiny.adapters(tiny.SAM, Lora(), seed=i) for i in range(2))
    adapted = lora.attach(base, one)
    back, same = lora.split(adapted)
    jax.tree.map(np.testing.assert_array_equal, (back, same), (base, one))
    with pytest.raises(ValueError, match="has adapters already"):
        lora.attach(adapted, two)
    assert lora.names(lora.attach(back, two)) == lora.names(two) == list(tree.flatten(two))


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: Lora(rank=0), r"lora\.rank is 0, so there is nothing to train"),
        (lambda: Lora(targets=()), "nothing to train"),
        (lambda: Lora(parts=()), "give some of q, k and v"),
        (lambda: Lora(parts=("q", "q")), "each once"),
        (lambda: Lora(parts=("q", "all")), "or all alone"),
        (lambda: Lora(alpha=0), "above 0"),
        (lambda: added(tiny.SAM, Lora(rank=33)), r"33, more than the 32 x 32 matrix of .*qkv \(q\).* at most 32"),
        (lambda: added(tiny.SAM, Lora((r"blocks\.0\.attn",))), "matches no parameter; the nearest names are"),
        (lambda: added(tiny.SAM, Lora((r".*\.norm1",))), "matches no parameter"),
        (lambda: added(tiny.MOBILE, Lora((r".*local_conv\.c",), rank=1)), "depthwise convolution.*leave it out"),
        (lambda: added(tiny.MOBILE, Lora((r"image_encoder\.head",))), "matches no parameter"),
    ],
)  # fmt: skip
def test_bad_input_is_one_sentence(make, why):
    with pytest.raises(BadInput, match=why) as error:
        make()
    assert "\n" not in str(error.value)


def test_adapters_of_another_model_are_refused():
    small, large = tiny.SAM, Sam.mini()
    with pytest.raises(
        BadInput, match=r"blocks\.0\.attn\.qkv\.lora\.q of \(192, 4\) and \(4, 192\) does not fit .* \(32, 96\)"
    ):
        lora.attach(tiny.params(small), tiny.adapters(large, Lora()))
    with pytest.raises(BadInput, match="no such kernel"):
        lora.attach(tiny.params(tiny.MOBILE), tiny.adapters(small, Lora()))
