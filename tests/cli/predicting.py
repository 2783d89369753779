"""What tests of `sadist predict` have in common."""

import json

from sadist_jax import cli
from sadist_jax.codecs import rle


def masks_of(path):
    """{id: mask} of a JSON in SA-1B's form."""
    content = json.loads(path.read_text())
    return {a["id"]: rle.decode(a["segmentation"]).astype(bool) for a in content["annotations"]}


def fails(capsys, *argv) -> str:
    """Exit code 2, one sentence on stderr, nothing on stdout."""
    assert cli.main(["predict", *map(str, argv)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    return line.removeprefix("sadist: ")
