import pytest

from conversion import hugging_face
from conversion.renaming import rename, swapped
from sadist_jax import tree
from sadist_jax.errors import BadInput
from sadist_jax.models.sam import Sam

RULES = (("blocks.{}.norm", "layers.{}.layer_norm"), ("head", "top"))


def test_numbers_and_what_follows_stay():
    state = {"blocks.11.norm.weight": 1, "head.bias": 2}
    there = rename(state, RULES, "file")
    assert there == {"layers.11.layer_norm.weight": 1, "top.bias": 2}
    assert rename(there, swapped(RULES), "file") == state


def test_a_rule_matches_whole_parts_of_a_name():
    with pytest.raises(BadInput, match=r"unknown name: header\.bias"):
        rename({"header.bias": 1}, RULES, "file")


def test_two_names_that_become_one_are_refused():
    with pytest.raises(BadInput, match=r"not the only one: b\.x -> c\.x"):
        rename({"a.x": 1, "b.x": 2}, (("a", "c"), ("b", "c")), "file")


@pytest.mark.parametrize("sam", [Sam.vit_b(), Sam.mini()], ids=["vit_b", "mini"])
def test_the_names_of_transformers_come_back(sam):
    names = dict.fromkeys(tree.flatten(sam.table()))
    theirs = rename(names, hugging_face.NAMES, "ours")
    assert len(theirs) == len(names)
    assert rename(theirs, swapped(hugging_face.NAMES), "theirs") == names
