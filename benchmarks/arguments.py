"""Define the command line arguments that these scripts share."""

import argparse
import math
import shutil
import sys
from collections.abc import Callable
from typing import TypeVar

Number = TypeVar("Number", int, float)


def at_least(least: Number, most: Number | None = None) -> Callable[[str], Number]:
    """Return an argument type for numbers of this kind from `least` to `most`. None means no upper limit."""

    def number(text: str) -> Number:
        found = type(least)(text)
        if not least <= found < math.inf:
            raise argparse.ArgumentTypeError(f"{text} is not {least:g} or more")
        if most is not None and found > most:
            raise argparse.ArgumentTypeError(f"{text} is not {least:g} to {most:g}")
        return found

    return number


def add_python(parser: argparse.ArgumentParser, default: str = sys.executable) -> None:
    """Add the flag --python, for scripts that run the daemon under an interpreter."""
    parser.add_argument(
        "--python", type=interpreter, default=default, help="the Python interpreter for `irsa-sidecar run`"
    )


def interpreter(text: str) -> str:
    """Return the path of a program, found as a shell finds it. This is the argument type for interpreters."""
    path = shutil.which(text)
    if path is None:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a program. Give the path of a Python, such as /usr/bin/python3"
        )
    return path
