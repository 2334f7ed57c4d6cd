"""Test that the work for a tenant's input is limited. The work is counted in calls, because times vary."""

import sys
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.errors import ConfigurationError
from sidecar.injection.eks_webhook import strip_eks_webhook
from sidecar.injection.inject import inject
from sidecar.injection.options import MAX_ROLES_CHARACTERS
from sidecar.injection.similar_names import MAX_NAME_CHARACTERS
from tests.unit.injection.pods import ACCOUNT, ARN, SETTINGS, pod

CALLS = 700_000
"""The limit for the number of calls. PyYAML makes about 80 calls per character of the worst text, in 0.25 s."""


def calls_of(work: Callable[[], object]) -> int:
    """Return the number of calls of Python and C functions."""
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
    "lists of the maximum depth": filled("[" * 8 + "a" + "]" * 8 + ",", "[", "a]"),
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
def test_work_for_a_list_of_roles_is_limited(text: str) -> None:
    found = pod()
    found["metadata"]["annotations"] = {"irsa-sidecar.io/roles": text}
    assert len(text) <= MAX_ROLES_CHARACTERS

    def refused() -> None:
        with pytest.raises(ConfigurationError):
            inject(found, ACCOUNT, SETTINGS)

    assert calls_of(refused) < CALLS


class CountedText(str):
    """A text that counts its comparisons."""

    __slots__ = ()
    compared = 0

    def __str__(self) -> str:
        return self

    def __lt__(self, other: str) -> bool:
        CountedText.compared += 1
        return super().__lt__(other)

    def startswith(self, prefix: str | tuple[str, ...], *_: object) -> bool:
        CountedText.compared += 1 if isinstance(prefix, str) else len(prefix)
        return super().startswith(prefix)


def test_work_for_mounts_of_the_eks_webhook_is_limited() -> None:
    """Check that the work grows with the number of mounts plus the number of variables, not with the product."""
    count = 3000
    found = pod()
    found["spec"]["containers"][0] |= {
        "volumeMounts": [{"name": "aws-iam-token", "mountPath": f"/m{number}"} for number in range(count)],
        "env": [{"name": "AWS_WEB_IDENTITY_TOKEN_FILE", "value": CountedText("/x")} for _ in range(count)],
    }
    CountedText.compared = 0
    with pytest.raises(ConfigurationError):
        inject(found, ACCOUNT, SETTINGS)
    assert 0 < CountedText.compared < 100 * count


@given(st.lists(st.text("ab/", max_size=5)), st.lists(st.text("ab/", max_size=8), max_size=3))
def test_variable_with_a_file_in_the_mount_is_removed(directories: list[str], files: list[str]) -> None:
    container = {
        "name": "a",
        "volumeMounts": [{"name": "aws-iam-token", "mountPath": each} for each in directories],
        "env": [{"name": "AWS_WEB_IDENTITY_TOKEN_FILE", "value": each} for each in files],
    }
    is_amazons = any(file.startswith(f"{directory.rstrip('/')}/") for directory in directories for file in files)
    kept = [] if is_amazons else container["env"]
    assert strip_eks_webhook(container).get("env", []) == kept


@pytest.mark.parametrize("size", [MAX_NAME_CHARACTERS, 1_000_000])
def test_work_for_similar_names_is_limited(size: int) -> None:
    """Use long names, because the API server checks the length of names only after the webhooks."""
    found = pod()
    found["metadata"]["annotations"] = {"irsa-sidecar.io/" + "ab" * (size // 2): "x"}

    def refused() -> None:
        with pytest.raises(ConfigurationError) as caught:
            inject(found, ACCOUNT, SETTINGS)
        assert len(str(caught.value)) < 1000

    assert calls_of(refused) < 10_000
