"""Test the subjects that a trust policy may contain."""

import pytest

from sidecar.errors import ConfigurationError
from sidecar.setup.subjects import read_service_account, subject_of_token
from tests.unit.setup.trust_policies import KEY


@pytest.mark.parametrize(
    "text", ["cart", "shop/", "/cart", "Shop/cart", "shop/cart/x", "shop:cart", "-a/b", "a/-", "", "a b/c"]
)
def test_invalid_service_account_is_rejected(text: str) -> None:
    for allow_wildcards in (False, True):
        with pytest.raises(ConfigurationError) as caught:
            read_service_account(text, allow_wildcards=allow_wildcards)
        assert caught.value.setting == "--service-account"
        assert caught.value.fix


@pytest.mark.parametrize("text", ["shop/*", "*/cart", "sho?/cart"])
def test_wildcard_is_accepted_only_with_the_flag(text: str) -> None:
    with pytest.raises(ConfigurationError, match="--allow-wildcards"):
        read_service_account(text, allow_wildcards=False)
    assert read_service_account(text, allow_wildcards=True) == f"system:serviceaccount:{text.replace('/', ':')}"


# The subject of a token


@pytest.mark.parametrize(
    "subject",
    [
        "*", "?", "system:serviceaccount:*", "system:serviceaccount:*:*", "system:serviceaccount:shop:*",
        "system:serviceaccount:sh?p:cart", "system:serviceaccount:shop", "system:serviceaccount:shop:cart:x",
        "system:serviceaccount:shop/cart", "system:serviceaccount::cart", "system:serviceaccount:Shop:cart",
        "system:serviceaccount:shop:cart ", "system:serviceaccount:shop:cart\n", "system:serviceaccount:shop:c\u202ert",
        "system:node:a", "shop/cart", "${aws:username}", f"${{{KEY}:sub}}", "system:serviceaccount:shop:${a}",
    ],
)  # fmt: skip
def test_subject_from_kubernetes_must_be_one_service_account(subject: str) -> None:
    with pytest.raises(ConfigurationError, match="--token-file is 't': its sub is "):
        subject_of_token(subject, "t", is_kubernetes=True, allow_wildcards=False)


@pytest.mark.parametrize(
    "subject",
    ["repo:acme/*", "repo:acme/shop:*", "*", "project?", "${x}", "a\nb", "a" * 256, "system:serviceaccount:*"],
)
def test_invalid_subject_from_a_ci_system_is_rejected(subject: str) -> None:
    with pytest.raises(ConfigurationError, match="--token-file is 't': its sub is "):
        subject_of_token(subject, "t", is_kubernetes=False, allow_wildcards=False)


def test_valid_subject_of_a_token_stays_unchanged() -> None:
    for subject in ("system:serviceaccount:shop:cart", "system:serviceaccount:shop:a.b-c"):
        assert subject_of_token(subject, "t", is_kubernetes=True, allow_wildcards=False) == subject
    for subject in ("repo:acme/shop:ref:refs/heads/main", "project_path:g/p:ref_type:branch:ref:main", "{uuid}:{uuid}"):
        assert subject_of_token(subject, "t", is_kubernetes=False, allow_wildcards=False) == subject
    for subject, is_kubernetes in (("system:serviceaccount:shop:*", True), ("repo:acme/*", False)):
        assert subject_of_token(subject, "t", is_kubernetes=is_kubernetes, allow_wildcards=True) == subject
