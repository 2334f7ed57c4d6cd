"""How messages show a value of the configuration. Pure."""

from typing import Any

MAX_SHOWN_CHARACTERS = 200


def shown(value: Any) -> str:
    """Return the value in quotes, cut if it is long: by aliases, a small file is a huge value."""
    text = repr(value)
    return text if len(text) <= MAX_SHOWN_CHARACTERS else f"{text[:MAX_SHOWN_CHARACTERS]}…"
