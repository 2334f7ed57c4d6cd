"""Decide whether a terminal shows colours."""

import os


def wants_colours() -> bool:
    """Return whether to use colours: not with NO_COLOR (no-color.org), nor on a dumb terminal."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
