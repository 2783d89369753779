import pytest

from sadist_jax.parallel import agreement
from sadist_jax.parallel.agreement import difference
from sadist_jax.train import run as runs
from tests.train.toy import toy_run

SAME = {"code": "c0de", "optim.lr": "0.001", "XLA_FLAGS": ""}


def told(*facts):
    """Hosts a, b, c, ... with these facts."""
    return [(chr(ord("a") + place), theirs) for place, theirs in enumerate(facts)]


def test_equal_hosts_do_not_differ():
    assert difference(told(SAME, dict(reversed(SAME.items())), SAME)) is None


def test_the_odd_one_is_named_with_both_values():
    odd = {**SAME, "optim.lr": "0.01"}
    assert difference(told(SAME, odd)) == (
        "process 1 (on b) differs from process 0 (on a): optim.lr is 0.01, not 0.001"
    )
    assert difference(told(odd, SAME, SAME)) == (
        "process 0 (on a) differs from process 1 (on b), 2 (on c): optim.lr is 0.01, not 0.001"
    )


def test_several_odd_ones_are_told_apart():
    sentence = difference(told(SAME, {**SAME, "code": "dead"}, SAME, {**SAME, "code": "beef"}))
    assert "process 1 (on b) differs from process 0 (on a), 2 (on c): code is dead, not c0de" in sentence
    assert "process 3 (on d) differs" in sentence


def test_what_one_does_not_have_and_what_is_empty_is_said():
    sentence = difference(told(SAME, {"code": "c0de", "XLA_FLAGS": "--x", "seed": "1"}))
    assert "optim.lr is missing, not 0.001, XLA_FLAGS is --x, not empty, seed is 1, not missing" in sentence


def test_long_values_and_long_lists_are_cut():
    many = {str(i): "0" for i in range(9)}
    sentence = difference(told(many, dict.fromkeys(many, "y" * 99)))
    assert f"0 is {'y' * 57}..., not 0" in sentence
    assert sentence.endswith("and 4 more")
    assert difference(told(*[many] * 20, {})).count("(on") == 1 + 5


def test_the_fields_of_a_run_are_facts_and_which_process_it_is_is_none(tmp_path):
    run = toy_run(tmp_path, freeze=("a", "b"))
    found = agreement.facts(runs.as_json(run))
    assert (found["optim.lr"], found["freeze.1"], found["data.source.count"]) == (str(run.optim.lr), '"b"', "64")
    assert not [name for name in found if name.startswith("hosts")]
    assert found["devices"] == "8 x cpu"
    assert len(found["code"]) == 12
    assert agreement.facts()["jax"] == agreement.jax.__version__


def test_where_an_object_lies_is_no_difference():
    fields = [dict(agreement._fields("", {"f": str(object())})) for _ in range(2)]
    assert fields == [{"f": '"<object object>"'}] * 2


def test_where_xla_dumps_is_no_difference(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_dump_to=/tmp/host3 --b --a")
    assert agreement.facts()["XLA_FLAGS"] == "--a --b"


def test_the_digest_of_the_code_depends_on_names_and_contents(tmp_path, monkeypatch):
    (tmp_path / "__init__.py").write_text("")
    monkeypatch.setattr(agreement.sadist_jax, "__file__", str(tmp_path / "__init__.py"))
    digests = [agreement._code()]
    for name, text in (("a.py", "x = 1"), ("a.py", "x = 2"), ("b.txt", "x = 2")):
        (tmp_path / name).write_text(text)
        digests.append(agreement._code())
    assert len(set(digests)) == 3
    assert digests[2] == digests[3]  # no Python


def test_one_process_agrees_with_itself():
    agreement.check({"any": "thing"})


@pytest.mark.parametrize(("value", "fields"), [({}, {}), ({"a": [{"b": None}, 1.5]}, {"a.0.b": "null", "a.1": "1.5"})])
def test_every_field_has_a_dotted_name(value, fields):
    assert dict(agreement._fields("", value)) == fields
