"""What the tests of `sadist label` share."""

LOOSE = ["--grid.points-per-side", "2", "--grid.pred-iou-thresh", "-9", "--grid.stability-score-thresh", "0"]


def fails(outcome) -> str:
    """Exit code 2 and one sentence on stderr."""
    code, _, err = outcome
    assert code == 2
    (line,) = err.splitlines()
    return line.removeprefix("sadist: ")
