"""Break text into lines for a report on a terminal. Pure."""

import textwrap


def wrapped(text: str, width: int, *, first: str = "", later: str = "  ") -> list[str]:
    """
    Return the text as lines, at least one. Names, paths and ARNs are not split, so that a person can copy them.

    `first` is the indent of the first line, and `later` that of the other lines.
    """
    return textwrap.wrap(
        text, width, initial_indent=first, subsequent_indent=later, break_long_words=False, break_on_hyphens=False
    ) or [first]
