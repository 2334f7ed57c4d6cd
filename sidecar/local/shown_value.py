"""Format a value of the configuration for messages. Pure."""

from typing import Any

MAX_SHOWN_CHARACTERS = 200


def shown(value: Any) -> str:
    """Return the value in Python's notation, shortened. With YAML aliases, a small file can contain a huge value."""
    text = repr(value)
    return text if len(text) <= MAX_SHOWN_CHARACTERS else f"{text[:MAX_SHOWN_CHARACTERS]}…"
