"""Decide whether a terminal shows colours."""

import os


def wants_colours() -> bool:
    """Return whether to use colours. NO_COLOR (no-color.org) and a dumb terminal disable them."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
