import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
from PIL import Image

from sadist_jax.train.chart import Chart, Series
from sadist_jax.train.report import Panel, Table, write_report

VOID = {"meta", "img", "br"}


class Balance(HTMLParser):
    """Collects the text; fails on a tag that is closed out of order."""

    def __init__(self):
        super().__init__()
        self.open, self.text = [], []

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def page(tmp_path, **contents):
    path = write_report(tmp_path / "runs" / "a" / "report.html", "A run <1>", **contents)
    assert path == tmp_path / "runs" / "a" / "report.html"
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]
    return path.read_text(encoding="utf-8")


def images(text):
    found = re.findall(r'src="data:image/(\w+);base64,([^"]+)"', text)
    return [(kind, np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))) for kind, data in found]


def test_everything_given_is_on_the_page_escaped_and_well_formed(tmp_path):
    text = page(
        tmp_path,
        summary="0.5 < 0.7 & so on",
        tables=[Table("Scores", ["model", "mIoU"], [["a<b", 0.123456], ["c", "0.5 ± 0.1"]], note="n = 3")],
        curves=[Chart("Loss", [Series("train", [0, 1], [1.0, 0.5])])],
        panels=[Panel("Masks", np.zeros((4, 6, 3), np.uint8), note="held out")],
        notes=["First note."],
        details=[("Config", "lr = 1e-3 # <here>")],
        next_command="sadist predict --out 'a b'",
    )
    parser = Balance()
    parser.feed(text)
    assert parser.open == []
    said = "".join(parser.text)
    for words in ("A run <1>", "0.5 < 0.7 & so on", "Scores", "a<b", "0.1235", "0.5 ± 0.1", "n = 3", "Loss", "train"):
        assert words in said
    for words in ("Masks", "held out", "First note.", "lr = 1e-3 # <here>", "sadist predict --out 'a b'"):
        assert words in said


def test_the_page_needs_nothing_from_outside(tmp_path):
    text = page(
        tmp_path, curves=[Chart("c", [Series("s", [0, 1], [1, 2])])], panels=[Panel("p", np.zeros((2, 2, 3), np.uint8))]
    )
    assert "http" not in text
    assert "<script" not in text
    assert "<link" not in text
    assert all(source.startswith("data:") for source in re.findall(r'(?:src|href)="([^"]*)', text))


def test_columns_of_numbers_are_aligned_right(tmp_path):
    text = page(
        tmp_path, tables=[Table("t", ["model", "size", "mixed"], [["3-layer net", "3.4 M", 1], ["b", -2, "n/a"]])]
    )
    cells = re.findall(r"<td ?([^>]*)>([^<]*)", text)
    assert [(mark != "", value) for mark, value in cells] == [
        (False, "3-layer net"), (True, "3.4 M"), (False, "1"), (False, "b"), (True, "-2"), (False, "n/a"),
    ]  # fmt: skip


def test_drawings_are_kept_exactly_and_photos_as_jpeg(tmp_path):
    drawing = np.zeros((64, 64, 3), np.uint8)
    drawing[10:20, 30:40] = (255, 0, 0)
    y, x = np.mgrid[:128, :128]
    photo = np.stack([x, y, x + y], -1) + np.random.default_rng(0).integers(0, 12, (128, 128, 3))
    photo = np.clip(photo, 0, 255).astype(np.uint8)
    (kind, back), (photo_kind, photo_back) = images(page(tmp_path, panels=[Panel("d", drawing), Panel("p", photo)]))
    assert kind == "png"
    assert np.array_equal(back, drawing)
    assert photo_kind == "jpeg"
    assert np.abs(photo_back.astype(int) - photo).mean() < 4


def test_an_older_report_is_replaced(tmp_path):
    assert "old words" in page(tmp_path, notes=["old words"])
    assert "old words" not in page(tmp_path, notes=["new words"])


def test_a_page_may_have_no_more_than_a_title(tmp_path):
    assert "<h1>A run &lt;1&gt;</h1>" in page(tmp_path)
    assert "<section>" not in page(tmp_path)
    assert "<table>" in page(tmp_path, tables=[Table("empty", ["model", "mIoU"], [])])
