"""What the collector of sam_mini's photos refuses; the collecting needs the photos."""

import pytest

from benchmarks import mini_teacher_data


def test_a_folder_that_exists_is_left_alone(tmp_path, monkeypatch, capsys):
    (tmp_path / "precious").write_text("1")
    folders = ["--coco200", "x", "--tinycoco", "x", "--wallpapers", "x", "--out", str(tmp_path)]
    monkeypatch.setattr("sys.argv", ["mini_teacher_data.py", *folders])
    with pytest.raises(SystemExit) as stop:
        mini_teacher_data.main()
    assert stop.value.code == 2
    assert f"{tmp_path} exists; delete it or choose another --out" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]
