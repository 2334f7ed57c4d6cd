"""Whether a person wants colours on a terminal."""

import os


def wants_colours() -> bool:
    """Return false for NO_COLOR (no-color.org) and for a terminal that calls itself dumb."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
