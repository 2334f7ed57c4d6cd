"""
Mutate the structure of YAML documents. Most mutated documents are valid YAML with wrong values.

Random changes of bytes rarely pass the parser. These mutations often do, so they test the code that reads the values.
"""

import json
import random
from typing import Any

import yaml

ODD: tuple[Any, ...] = (
    None, True, 0, -1, 1e308, float("inf"), 2**64, 10**400, "", " ", "\0", "\x1b[31m", "\ud800", "\udcff", "\U0001f600",
    "a" * 5000, "~", "~nobody/x", "..", "*", "{role}", "{", "${aws:username}", "http://[::", "https://a:b@c", "max",
    "1e3", "0x1F", "0o17", "1:30", "2012-10-17", "yes", "<<", "=", [], {}, [[]], [None], {"": ""},
    {"a": {"a": {"a": 1}}},
)  # fmt: skip
"""The values that often break readers of settings."""

TAGS = ("!!int ", "!!float ", "!!bool ", "!!null ", "!!binary ", "!!timestamp ", "!!set ", "!!omap ", "!!str ", "!a ")

MAX_LEVELS = 600

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def mutated_document(data: bytes, chance: random.Random) -> bytes:
    """Return the document with one to three values or keys changed. Bytes that are not YAML are returned unchanged."""
    try:
        document = yaml.load(data, _LOADER)
    except Exception:  # noqa: BLE001  PyYAML raises many exceptions, and then there is nothing to mutate
        return data
    for _ in range(chance.randint(1, 3)):
        document = _changed(document, chance)
    try:
        return _written(document, chance).encode("utf-8", "surrogatepass")
    except (ValueError, RecursionError):  # the document contains a reference to itself
        return data


def _changed(value: Any, chance: random.Random) -> Any:
    """Return the value with a change of a random value or key at any depth."""
    if isinstance(value, dict) and value and chance.random() < 0.8:
        key = chance.choice(list(value))
        return (
            _with_other_key(value, key, chance)
            if chance.random() < 0.15
            else value | {key: _changed(value[key], chance)}
        )
    if isinstance(value, list) and value and chance.random() < 0.8:
        index = chance.randrange(len(value))
        return [*value[:index], _changed(value[index], chance), *value[index + 1 :]]
    return _odd(value, chance)


def _with_other_key(value: dict[Any, Any], key: Any, chance: random.Random) -> dict[Any, Any]:
    other = chance.choice([word for word in ODD if isinstance(word, str)])
    return {other if name == key else name: item for name, item in value.items()}


def _odd(value: Any, chance: random.Random) -> Any:
    shape = chance.randrange(6)
    if shape == 0:
        return [value] * chance.choice([2, 60])
    if shape == 1:
        return {"a": value}
    if shape == 2 and isinstance(value, str):
        return value * 3
    return chance.choice(ODD)


def _written(document: Any, chance: random.Random) -> str:
    """
    Return the document as JSON, often with one random change.

    The changes are a repeated key, a tag, an alias, deep nesting, and a policy in a string.
    """
    text = json.dumps(
        document, default=str, skipkeys=True, ensure_ascii=chance.random() < 0.5, indent=chance.choice([None, 1])
    )
    return chance.choice([_plain, _with_key_twice, _with_tag, _with_alias, _nested, _in_text])(text, chance)


def _plain(text: str, _chance: random.Random) -> str:
    return text


def _with_key_twice(text: str, chance: random.Random) -> str:
    """Add the key `Effect` twice to one mapping that is not empty."""
    keys = [index for index, character in enumerate(text) if character == "{"]
    if not keys:
        return text
    at = chance.choice(keys) + 1
    return f'{text[:at]}"Effect": "Deny", "Effect": "Allow", {text[at:]}' if text[at : at + 1] != "}" else text


def _with_tag(text: str, chance: random.Random) -> str:
    at = _start_of_value(text, chance)
    return text[:at] + chance.choice(TAGS) + text[at:]


def _with_alias(text: str, chance: random.Random) -> str:
    """Define an anchor for one value, and refer to it at another place, which may be inside the value."""
    first, second = sorted((_start_of_value(text, chance), _start_of_value(text, chance)))
    return f"{text[:first]}&a {text[first:second]}*a , {text[second:]}"


def _nested(text: str, chance: random.Random) -> str:
    at, levels = _start_of_value(text, chance), chance.randrange(MAX_LEVELS)
    opened, closed = chance.choice([("[", "]"), ('{"a": ', "}")])
    return text[:at] + opened * levels + "1" + closed * levels + ", " + text[at:]


def _in_text(text: str, chance: random.Random) -> str:
    """Replace the policy, in half of the documents, with a string that contains JSON."""
    return text.replace('"policy": {', f'"policy": {json.dumps(text[:500])}, "x": {{', chance.randint(0, 1))


def _start_of_value(text: str, chance: random.Random) -> int:
    starts = [index + 2 for index, character in enumerate(text) if character == ":"] + [0]
    return chance.choice(starts)
