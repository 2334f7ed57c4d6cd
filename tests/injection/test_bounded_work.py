"""What a tenant writes into an annotation takes bounded work, counted in calls and not in time."""

import sys
from collections.abc import Callable

import pytest

from sidecar.errors import ConfigurationError
from sidecar.injection.annotations import MAX_ROLES_CHARACTERS
from sidecar.injection.pod import inject
from sidecar.injection.similar_names import MAX_NAME_CHARACTERS
from tests.injection.pods import ACCOUNT, ARN, SETTINGS, pod

CALLS = 700_000
"""PyYAML makes some 80 for each character of the worst shape within the limits: a quarter of a second."""


def calls_of(work: Callable[[], object]) -> int:
    """How many Python and C functions are called."""
    count = 0

    def profile(_frame: object, event: str, _argument: object) -> None:
        nonlocal count
        count += event in {"call", "c_call"}

    sys.setprofile(profile)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


def filled(unit: str, before: str = "", after: str = "", length: int = MAX_ROLES_CHARACTERS) -> str:
    return before + unit * ((length - len(before) - len(after)) // len(unit)) + after


SHAPES = {
    "lists that nest as deep as they may": filled("[" * 8 + "a" + "]" * 8 + ",", "[", "a]"),
    "short items at the deepest level": filled("a,", "[" * 9, "a" + "]" * 9),
    "lists that are never closed": filled("a,", "[" * 9),
    "brackets alone": filled("["),
    "braces alone": filled("{"),
    "empty mappings": filled("{},", "[" * 8, "{}" + "]" * 8),
    "keys without values": filled("a: b,", "[", "a]"),
    "explicit keys": filled("? a,", "[", "a]"),
    "quotes": filled('"",', "[", "a]"),
    "aliases": filled("*a,", "[&a a,", "*a]"),
    "tags": filled("!!str a,", "[", "a]"),
    "block items": filled("- a\n"),
    "block nesting": "\n".join(" " * level + "a:" for level in range(120)),
    "dashes": filled("- "),
    "question marks": filled("? "),
    "escapes": filled(r"\x41", '["', '"]'),
    "comments": filled("#\n"),
    "folded lines": filled(" a\n", ">\n"),
    "directives": filled("%a b\n", "", "--- a"),
    "a policy's text": f"[{{name: a, role_arn: '{ARN}', policy: '"
    + filled("[" * 5 + "a" + "]" * 5 + ",", "[", "a]", 7800)
    + "'}]",
}


@pytest.mark.parametrize("text", SHAPES.values(), ids=SHAPES)
def test_parsing_a_list_of_roles_takes_bounded_work(text: str) -> None:
    found = pod()
    found["metadata"]["annotations"] = {"irsa-sidecar.io/roles": text}
    assert len(text) <= MAX_ROLES_CHARACTERS

    def refused() -> None:
        with pytest.raises(ConfigurationError):
            inject(found, ACCOUNT, SETTINGS)

    assert calls_of(refused) < CALLS


@pytest.mark.parametrize("size", [MAX_NAME_CHARACTERS, 1_000_000])
def test_a_similar_name_is_looked_for_in_bounded_work(size: int) -> None:
    """Webhooks run before the API server checks how long a name is."""
    found = pod()
    found["metadata"]["annotations"] = {"irsa-sidecar.io/" + "ab" * (size // 2): "x"}

    def refused() -> None:
        with pytest.raises(ConfigurationError) as caught:
            inject(found, ACCOUNT, SETTINGS)
        assert len(str(caught.value)) < 1000

    assert calls_of(refused) < 10_000
