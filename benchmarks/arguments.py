"""What the command lines of these scripts share."""

import argparse
import math
from collections.abc import Callable
from typing import TypeVar

Number = TypeVar("Number", int, float)


def at_least(least: Number) -> Callable[[str], Number]:
    """An argument's type: a number of that kind, and no less."""

    def number(text: str) -> Number:
        found = type(least)(text)
        if not least <= found < math.inf:
            raise argparse.ArgumentTypeError(f"{text} is not {least:g} or more")
        return found

    return number
