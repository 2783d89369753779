"""Contenders without a framework: they note in a file that they ran, and some come to grief."""

import os
import sys
import time

import numpy as np

from benchmarks.case import Case, Contender, Op


def _toy(log, name, value=1.0, run=lambda: None):
    def noted():
        with open(log, "a") as file:
            print(name, file=file)
        run()

    return Op(noted, lambda: {"x": np.array([1.0, value])})


def first(folder, log):
    print("this must not disturb the conversation")
    return _toy(log, "first")


def second(folder, log):
    return _toy(log, "second", value=1.0005)


def mortal(folder, log):
    """Two runs to warm up, one turn, then the end."""
    lives = iter(range(3))

    def run():
        if next(lives, None) is None:
            print("out of lives", file=sys.stderr, flush=True)
            os._exit(3)

    return _toy(log, "mortal", run=run)


def stillborn(folder, log):
    raise RuntimeError("no weights")


def hanging(folder, log):
    time.sleep(3600)


def wrong(folder, log):
    return _toy(log, "wrong", value=1.01)


def not_a_number(folder, log):
    return _toy(log, "not_a_number", value=np.nan)


def case(log, *makes, repeat=1):
    contenders = tuple(Contender(make.__name__, make) for make in makes)
    return Case("toys", "Toys", contenders, options={"log": str(log)}, repeat=repeat)
