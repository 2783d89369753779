"""What jobs print: at once, so that a log file shows how far they are."""

from sadist_jax.data.names import printable


def say(text: str) -> None:
    """Print a line."""
    print(printable(text), flush=True)
