"""
Convert YAML scalars to values as kubectl does.

Rule: kubectl reads YAML with go-yaml version 2 (through sigs.k8s.io/yaml), so this module copies its resolution table.
The table is YAML 1.1 with octal `0400`, `yes` and `off`, and with `0o400`, but without base 60. Dates remain text.
Pure.
"""

import base64
import binascii
import math
import re
from functools import lru_cache
from typing import Any

from sidecar.setup.yaml.errors import UnreadableError

MERGE = "<<"

_TAG = "tag:yaml.org,2002:"
_BOOL, _INT, _FLOAT, _NULL, _TEXT = "bool", "int", "float", "null", "str"

_WORDS: dict[str, tuple[str, Any]] = {
    **dict.fromkeys(("y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"), (_BOOL, True)),
    **dict.fromkeys(("n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"), (_BOOL, False)),
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), (_NULL, None)),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), (_FLOAT, math.nan)),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), (_FLOAT, math.inf)),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), (_FLOAT, -math.inf)),
}
"""The values of the plain scalars with a special meaning, from go-yaml's `resolveMap`."""

_NON_NUMBERS = {"inf": ".inf", "-inf": "-.inf", "nan": ".nan"}
"""The YAML forms of infinity and NaN, by their Python forms."""

_INTEGER = re.compile(r"([-+]?)(?:0[xX]([0-9a-fA-F]+)|0[bB]([01]+)|0[oO]([0-7]+)|0([0-7]+)|(0|[1-9][0-9]*))", re.ASCII)
"""Pattern for the texts that Go's `strconv.ParseInt(text, 0, 64)` accepts, without underscores."""

_UNDERSCORE_IN_DIGITS = re.compile(r"(?<=[0-9])_(?=[0-9])")

_FLOATING = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", re.ASCII)
_MIN_INTEGER, _MAX_INTEGER = -(2**63), 2**64 - 1
_MAX_EXACT_FLOAT = 2**53
"""The largest float up to which floats represent every integer exactly."""


def resolve_scalar(text: str, tag: str | None, *, is_implicit: bool) -> Any:
    """
    Return the value of a scalar in its JSON form.

    `is_implicit` is true for plain scalars without a tag.

    Raises UnreadableError if the tag does not match the text.
    """
    if tag is None:
        return _resolved(text)[1] if is_implicit else text
    name = tag.removeprefix(_TAG) if tag.startswith(_TAG) else ""
    if name == "binary":
        return _decoded(text)
    if name not in (_BOOL, _INT, _FLOAT, _NULL):
        return text
    found, value = _resolved(text)
    if found == name or (name == _FLOAT and found == _INT):
        return value
    raise UnreadableError(f"{text[:40]!r} is not a !!{name}")


def key_text(value: Any) -> str:
    """
    Return the text of a mapping key in JSON.

    Raises UnreadableError for null, and for numbers that Go rejects as keys.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None or (isinstance(value, int) and value >= 2**63):
        raise UnreadableError(f"a mapping key is {'null' if value is None else value}, which JSON does not allow")
    return _NON_NUMBERS.get(str(value), str(value))


def is_merge_key(text: str, tag: str | None, *, is_implicit: bool) -> bool:
    """Return whether the key merges another mapping into its mapping."""
    return text == MERGE and (is_implicit or tag == f"{_TAG}merge")


@lru_cache(maxsize=4096)
def _resolved(text: str) -> tuple[str, Any]:
    """Return the type and the value that go-yaml finds for a plain scalar."""
    if text in _WORDS:
        return _WORDS[text]
    if text[0] == ".":
        return _floating(_UNDERSCORE_IN_DIGITS.sub("", text), text)
    if text[0] not in "+-0123456789":
        return _TEXT, text
    digits = text.replace("_", "")
    integer = _integer(digits)
    return _floating(digits, text) if integer is None else (_INT, integer)


def _integer(digits: str) -> int | None:
    """Return the integer, or None if the text is not an integer or needs more than 64 bits."""
    found = _INTEGER.fullmatch(digits)
    if found is None or len(digits) > 70:  # 64 binary digits, a sign and a prefix
        return None
    sign, *parts = found.groups()
    number = next(int(part, base) for part, base in zip(parts, (16, 2, 8, 8, 10), strict=True) if part)
    number = -number if sign == "-" else number
    is_unsigned = sign == "" or number <= 2**63 - 1
    return number if _MIN_INTEGER <= number <= _MAX_INTEGER and is_unsigned else None


def _floating(digits: str, text: str) -> tuple[str, Any]:
    if not _FLOATING.fullmatch(digits) or math.isinf(number := float(digits)):
        return _TEXT, text
    # JSON does not distinguish 8.0 from 8, and Go writes 8.
    return _FLOAT, int(number) if number.is_integer() and abs(number) < _MAX_EXACT_FLOAT else number


def _decoded(text: str) -> str:
    try:
        return base64.b64decode(re.sub(r"[\r\n]", "", text), validate=True).decode(errors="replace")
    except (binascii.Error, ValueError) as exc:
        raise UnreadableError("a !!binary is not base64") from exc
