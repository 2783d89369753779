import numpy as np
import pytest

from sadist_jax import tree
from sadist_jax.errors import BadInput
from sadist_jax.nn import table as leaves
from sadist_jax.train import start
from sadist_jax.train.start import Source, Start, overlay
from sadist_jax.weights import safetensors
from tests.train.toy import net_table

TABLE = {"student": net_table(), "teacher": net_table()}
NAMES = tree.flatten(TABLE).keys()


def values(fill, prefix=""):
    """A net in the reference's layout: kernels are (out, in)."""
    shapes = {name: leaf.reference_shape for name, leaf in tree.flatten(net_table()).items()}
    return {prefix + n: np.arange(np.prod(s), dtype=np.float32).reshape(s) + fill for n, s in shapes.items()}


def reader(**files):
    return lambda path: Source(files[path], reference=True)


def test_a_group_says_what_the_leaf_is_called_in_the_source():
    found = overlay(
        [Start(r"teacher\.(.*)", "a", "image_encoder.")], TABLE, NAMES, reader(a=values(3, "image_encoder."))
    )
    assert found.keys() == {n for n in NAMES if n.startswith("teacher.")}
    np.testing.assert_array_equal(found["teacher.blocks.0.kernel"], values(3)["blocks.0.kernel"].T)


def test_without_a_group_the_whole_name_counts():
    found = overlay([Start(r"student\.head\..*", "a", "net.")], TABLE, NAMES, reader(a=values(0, "net.student.")))
    assert set(found) == {"student.head.kernel", "student.head.scale"}


def test_the_last_start_wins_and_unwanted_files_are_not_read():
    starts = [Start(r"student\.(.*)", "a"), Start(r"student\.(head\..*)", "b"), Start(r"teacher\.(.*)", "never read")]
    wanted = [n for n in NAMES if n.startswith("student")]
    found = overlay(starts, TABLE, wanted, reader(a=values(0), b=values(1)))
    assert found["student.head.scale"] == 1
    assert found["student.blocks.0.bias"][0] == 0


def test_all_that_is_missing_is_listed():
    source = {n: v for n, v in values(0).items() if n not in ("blocks.0.bias", "head.scale")}
    with pytest.raises(BadInput, match=r"a\.pth lacks 2 of 7 leaves.*\nblocks\.0\.bias\nhead\.scale") as error:
        overlay([Start(r"student\.(.*)", "a.pth")], TABLE, NAMES, lambda path: Source(source, reference=True))
    assert "blocks.1.bias" not in str(error.value)


@pytest.mark.parametrize("reference", [True, False])
def test_all_that_has_another_shape_is_listed(reference):
    source = {n: np.zeros((*v.shape, 1)) if "bias" in n else v for n, v in values(0).items()}
    if not reference:
        source = {n: v.T for n, v in source.items()}
    with pytest.raises(BadInput, match=r"student\.blocks\.0\.bias[^\n]*\n[^\n]*student\.blocks\.1\.bias"):
        overlay([Start(r"student\.(.*)", "a")], TABLE, NAMES, lambda path: Source(source, reference))


def test_a_target_that_matches_nothing_is_refused():
    with pytest.raises(BadInput, match="matches no parameter"):
        overlay([Start("studnt.*", "a")], TABLE, NAMES, reader())


def test_files_are_read_in_the_reference_layout(tmp_path):
    table = net_table()
    ours = tree.unflatten(
        {n: np.random.default_rng(0).normal(size=leaf.shape) for n, leaf in tree.flatten(table).items()}
    )
    safetensors.write(tmp_path / "x.safetensors", leaves.to_reference(table, ours), {})
    found = overlay([Start(r"student\.(.*)", str(tmp_path / "x.safetensors"))], TABLE, NAMES)
    for name, value in tree.flatten(ours).items():
        np.testing.assert_array_equal(found[f"student.{name}"], value)


def test_what_is_neither_file_nor_run_is_refused(tmp_path):
    with pytest.raises(BadInput, match=r"nothing\.pth, which the run starts from, does not exist"):
        start.read(str(tmp_path / "nothing.pth"))
    with pytest.raises(BadInput, match="neither weights nor a checkpoint"):
        start.read(str(tmp_path))
