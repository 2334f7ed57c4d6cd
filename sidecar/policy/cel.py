"""Write values and messages as expressions of CEL, the Common Expression Language of Kubernetes' policies. Pure."""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from sidecar.errors import ConfigurationError

MAX_LINE_CHARACTERS = 100
"""Length, in characters, above which an expression is written on several lines."""

MARKER = "①"
"""The placeholder for a value of the Pod in an example. In the example's message, an expression replaces it."""

SHOWN_CHARACTERS = 100
"""The number of characters of a value that a message repeats, as in the messages of sidecar/role.py."""

MAX_REPETITIONS = 1000
"""Maximum number of repetitions in a pattern of RE2, which CEL uses."""


class Cel(str):
    """An expression that takes the place of a value in a document."""

    __slots__ = ()


def text(value: str) -> str:
    """Return the literal of a text. CEL has the escape sequences of JSON."""
    return json.dumps(value, ensure_ascii=False)


def texts(values: Any) -> str:
    """Return the literal of a list of texts."""
    return enclosed("[", list(map(text, values)), "]")


def constructed(value: Any, kind: str) -> str:
    """
    Return the expression that constructs a part of a Pod. `kind` is the part's path, such as `Object.spec.volumes`.

    CEL requires values of one type in a list or a map, so a mapping becomes an object of the type for its path.
    """
    if isinstance(value, Cel):
        return str(value)
    if isinstance(value, dict):
        fields = [f"{_field(key)}: {constructed(each, f'{kind}.{key}')}" for key, each in value.items()]
        return enclosed("{", fields, "}") if _is_map(kind) else kind + enclosed("{", fields, "}")
    if isinstance(value, list):
        return enclosed("[", [constructed(each, kind) for each in value], "]")
    return json.dumps(value, ensure_ascii=False)


def _is_map(kind: str) -> bool:
    """Return whether the keys are data, such as the names of resources, and not fields of Kubernetes' API."""
    return kind.endswith((".requests", ".limits"))


def _field(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z]+", key) and key not in ("cpu", "memory") else text(key)


def enclosed(start: str, parts: list[str], end: str) -> str:
    """Return the parts between `start` and `end`, on several lines if they are long."""
    line = f"{start}{', '.join(parts)}{end}"
    if len(line) <= MAX_LINE_CHARACTERS and "\n" not in line:
        return line
    lines = ",\n".join(parts).replace("\n", "\n  ")
    return f"{start}\n  {lines}\n{end}"


def shown(value: str) -> str:
    """Return the expression for a value in a message: its first characters, in quotes and without line breaks."""
    start = f'({value}).find("(?s)^.{{0,{SHOWN_CHARACTERS}}}")'
    return f"""strings.quote({start}).replace("\\"", "'")"""


def message(check: Callable[..., object], *arguments: Any, **values: str) -> str:
    """
    Return the expression of the message with which a check rejects its arguments.

    The keys of `values` are texts in the message, or `quoted` and `plain` for MARKER with and without quotes. Each is
    replaced by the value of its expression.
    """
    known = {"quoted": repr(MARKER), "plain": MARKER}
    return filled(rejection_of(check, *arguments), {known.get(key, key): each for key, each in values.items()})


def filled(sentence: str, values: Mapping[str, str]) -> str:
    """Return the expression of a sentence in which each key of `values` is replaced by the value of its expression."""
    if not values:
        return text(sentence)
    parts = re.split(f"({'|'.join(map(re.escape, values))})", sentence)
    shown_parts = [values.get(part) or text(part) for part in parts if part]
    line = " + ".join(shown_parts)
    return line if len(line) <= MAX_LINE_CHARACTERS else " +\n    ".join(shown_parts)


def rejection_of(check: Callable[..., object], *arguments: Any) -> str:
    """
    Return the message with which a check rejects its arguments.

    Raises ValueError if the check accepts the arguments.
    """
    try:
        check(*arguments)
    except ConfigurationError as error:
        return str(error)
    raise ValueError(f"{check.__name__} accepted {arguments!r}")


def whole(pattern: str) -> str:
    """Return the literal of a pattern that must match a whole text, with long repetitions divided for RE2."""

    def divided(found: re.Match[str]) -> str:
        part, low, high = found[1], int(found[2]), int(found[3])
        if high <= MAX_REPETITIONS:
            return found[0]
        return f"{part}{{{low},{MAX_REPETITIONS}}}{part}{{0,{high - MAX_REPETITIONS}}}"

    return text("^(?:" + re.sub(r"(\[[^\]]*\])\{(\d+),(\d+)\}", divided, pattern) + ")$")
