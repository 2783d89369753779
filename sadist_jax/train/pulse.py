"""A sign of life from the middle of long work inside a run, such as an eval over many images.

Whoever does the work calls `beat` between two pieces of it; the loop of the run listens. Outside a run nobody does.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

_listeners: list[Callable[[], None]] = []


def beat() -> None:
    """All is well. Raises `stop.Asked` where the work is to be left undone: let it pass."""
    for listener in _listeners:
        listener()


@contextmanager
def listening(listener: Callable[[], None]) -> Iterator[None]:
    """Call `listener` at every beat inside the block."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)
