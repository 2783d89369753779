from benchmarks import everything_breakdown


def test_the_stages_are_timed_and_nothing_is_written(capsys, monkeypatch):
    monkeypatch.setattr(
        everything_breakdown, "medians", lambda stages, rounds: dict(zip(stages, (1, 5, 8, 10, 18), strict=True))
    )
    everything_breakdown.main(["--tiny", "--rounds", "1"])
    printed = capsys.readouterr().out
    for row in ("image encoded | 1.00 s | 10%", "clicks decoded | 5.00 s | 40%", "everything | 10.00 s | 20%"):
        assert row in printed
    assert "saves 50% of the time" in printed  # 10 seconds instead of 20
