"""Test `setup role` with --account-id and --output, which needs no call to AWS."""

import json
import time
from pathlib import Path
from typing import Any

import jwt
import pytest

from sidecar.local.issuer import generate_key
from sidecar.local.signing_keys import KeySet, signing_key
from tests.support.fakes.internet import Internet
from tests.support.fakes.tokens import jwt_of, service_account_claims, service_account_token
from tests.unit.setup.conftest import ISSUER, KEYS_URI, Authorities, Offline

PROVIDER = "arn:aws:iam::123456789012:oidc-provider/oidc.example.com/clusters/shop"
CART = ("role", "cart", "--issuer", ISSUER, "--service-account", "shop/cart")


def test_token_file_gives_issuer_subject_and_audience(offline: Offline, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text(service_account_token(time.time(), iss=ISSUER, aud=["vault"]))
    done = offline("role", "cart", "--token-file", str(token))
    assert done.status == 0
    assert "the token was not verified: the issuer's keys are not available: https://oidc.example.com" in done.err
    (statement,) = json.loads(done.out)["AssumeRolePolicyDocument"]["Statement"]
    assert statement["Principal"] == {"Federated": PROVIDER.replace("123456789012", "111122223333")}
    assert statement["Condition"]["StringEquals"] == {
        "oidc.example.com/clusters/shop:aud": "vault",
        "oidc.example.com/clusters/shop:sub": "system:serviceaccount:shop:cart",
    }
    named = offline("role", "cart", "--token-file", str(token), "--service-account", "a/b", "--audience", "c")
    assert "system:serviceaccount:a:b" in named.out
    assert '"c"' in named.out


@pytest.mark.parametrize(
    ("claims", "audience"),
    [
        ({"aud": "account", "azp": "aws-cli"}, "aws-cli"),
        ({"aud": ["https://api.example.com", "https://t.auth0.com/userinfo"], "azp": "AbC"}, "AbC"),
        ({"aud": "vault"}, "vault"),
    ],
)
def test_azp_of_the_token_is_the_audience(
    claims: dict[str, Any], audience: str, offline: Offline, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text(service_account_token(time.time(), iss=ISSUER, **claims))
    done = offline("role", "cart", "--token-file", str(token))
    (statement,) = json.loads(done.out)["AssumeRolePolicyDocument"]["Statement"]
    assert statement["Condition"]["StringEquals"]["oidc.example.com/clusters/shop:aud"] == audience


@pytest.mark.parametrize(
    ("claims", "word"),
    [
        ({"sub": "system:serviceaccount:shop:cart", "aud": "x"}, "the token has no claim iss"),
        (
            {"iss": ISSUER, "sub": "system:serviceaccount:shop:cart", "aud": ["a", "b"]},
            "several audiences (a, b) and no azp",
        ),
        ({"iss": ISSUER, "sub": "system:serviceaccount:shop:cart", "aud": "a", "azp": ""}, "azp is empty"),
        ({"iss": ISSUER, "aud": ["a"]}, "--service-account is not set"),
    ],
)
def test_token_with_missing_or_unclear_claims_is_rejected(
    offline: Offline, tmp_path: Path, claims: Any, word: str
) -> None:
    token = tmp_path / "token"
    token.write_text(jwt_of(claims))
    done = offline("role", "cart", "--token-file", str(token))
    assert done.status == 2
    assert word in done.err


HOSTILE = [
    {"sub": "*"},
    {"sub": "system:serviceaccount:*:*"},
    {"sub": "system:serviceaccount:shop:ca?t"},
    {"sub": "system:serviceaccount:shop"},
    {"sub": "${oidc.example.com/clusters/shop:sub}"},
    {"sub": "repo:acme/shop"},
    {"sub": "repo:acme/*", "kubernetes.io": None},
    {"sub": "${aws:username}", "kubernetes.io": None},
    {"aud": "${oidc.example.com/clusters/shop:aud}"},
    {"azp": "${oidc.example.com/clusters/shop:aud}"},
    {"aud": "a\nb"},
    {"iss": "https://oidc.example.com/*"},
    {"iss": "https://oidc.example.com/${x}"},
]


@pytest.mark.parametrize("claims", HOSTILE, ids=str)
@pytest.mark.parametrize("output", ["json", "yaml", "terraform", "cloudformation"])
@pytest.mark.parametrize("flag", [(), ("--replace",)], ids=str)
def test_token_with_hostile_claims_is_rejected(
    offline: Offline, tmp_path: Path, claims: Any, output: str, flag: tuple[str, ...]
) -> None:
    token = tmp_path / "token"
    token.write_text(service_account_token(time.time(), **{"iss": ISSUER, **claims}))
    done = offline("role", "cart", "--token-file", str(token), *flag, output=output)
    assert (done.status, done.out) == (2, "")


def test_pattern_in_a_token_needs_allow_wildcards(offline: Offline, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text(service_account_token(time.time(), iss=ISSUER, sub="system:serviceaccount:shop:*"))
    assert "--allow-wildcards" in offline("role", "cart", "--token-file", str(token)).err
    done = offline("role", "cart", "--token-file", str(token), "--allow-wildcards")
    assert (done.status, "StringLike" in done.out) == (0, True)


SIGNING_KEY, OTHER_KEY = generate_key(), generate_key()


def signed(tmp_path: Path, key: Any = SIGNING_KEY, **changes: Any) -> str:
    claims = service_account_claims(time.time(), iss=ISSUER, **changes)
    kid = signing_key(SIGNING_KEY).kid
    (tmp_path / "token").write_text(jwt.encode(claims, key, algorithm="RS256", headers={"kid": kid}))
    return str(tmp_path / "token")


@pytest.fixture
def published(issuer: Internet, authorities: Authorities, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Internet:
    """Provide an issuer that publishes the signing key, and an empty cache of keys."""
    issuer.publish(KEYS_URI, KeySet((signing_key(SIGNING_KEY),)).jwks())
    monkeypatch.setenv("AWS_CA_BUNDLE", str(authorities.public_file))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return issuer


def test_token_is_verified_with_its_issuers_keys(published: Internet, offline: Offline, tmp_path: Path) -> None:
    done = offline("role", "cart", "--token-file", signed(tmp_path))
    assert done.status == 0
    assert f"verified with key {signing_key(SIGNING_KEY).kid} that {ISSUER} publishes" in done.err
    assert published.requested_urls == [f"{ISSUER}/.well-known/openid-configuration", KEYS_URI]


@pytest.mark.parametrize("changes", [{}, {"sub": "system:serviceaccount:kube-system:admin"}], ids=str)
def test_token_with_a_wrong_signature_is_rejected(
    published: Internet, offline: Offline, tmp_path: Path, changes: Any
) -> None:
    done = offline("role", "cart", "--token-file", signed(tmp_path, OTHER_KEY, **changes))
    assert (done.status, done.out) == (1, "")
    assert "does not verify the signature" in done.err
    assert published.requested_urls


def test_expired_token_still_names_its_service_account(published: Internet, offline: Offline, tmp_path: Path) -> None:
    done = offline("role", "cart", "--token-file", signed(tmp_path, exp=1000))
    assert done.status == 0
    assert "its signature is valid, but" in done.err
    assert published.requested_urls


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["role", "a/b"], "ROLE is 'a/b'"),
        (["role", "arn:aws:iam::1:role/x"], "ROLE is 'arn:aws:iam::1:role/x'"),
        (["role", "x" * 65], "ROLE is"),
        (["role", "cart"], "--service-account is not set"),
        (["role", "cart", "--service-account", "cart"], "NAMESPACE/NAME"),
        (["role", "cart", "--service-account", "shop/*"], "--allow-wildcards"),
        (["role", "cart", "--max-session-duration", "900"], "3600 to 43200 seconds"),
        (["role", "cart", "--path", "pods"], "--path is 'pods'"),
        (["role", "cart", "--trust-policy-limit", "9000"], "2048 to 8192"),
        (["role", "cart", "--tag", "x"], "--tag is 'x'"),
        (["role", "cart", "--tag", "x=${y}"], "--tag is 'x=${y}'"),
        (
            ["role", "cart", "--service-account", "a/b", "--policy-arn", "ReadOnlyAccess"],
            "--policy-arn is 'ReadOnlyAccess'",
        ),
        (
            ["role", "cart", "--service-account", "a/b", "--policy-arn", "arn:aws:iam::222233334444:policy/x"],
            "--policy-arn is 'arn:aws:iam::222233334444:policy/x'",
        ),
        (["role", "cart", "--service-account", "a/b", "--permissions-boundary", "x"], "--permissions-boundary is 'x'"),
        (["role", "cart", "--service-account", "a/b", "--audience", ""], "--audience is ''"),
        (["role", "cart", *[f"--service-account=shop/cart-{number}" for number in range(60)]], "--trust-policy-limit"),
        (
            ["oidc-provider", *[f"--audience={number}" for number in range(101)], "--skip-checks"],
            "--audience would be number 101",
        ),
    ],
)
def test_value_that_iam_rejects_is_reported_on_one_line(offline: Offline, arguments: list[str], word: str) -> None:
    done = offline(*arguments, "--issuer", ISSUER)
    assert (done.status, done.out) == (2, "")
    assert word in done.err
    assert done.err.startswith("irsa-sidecar: ")
    assert done.err.count("\n") == 1


def test_unknown_region_is_named_in_the_error(offline: Offline) -> None:
    done = offline(*CART, "--region", "nowhere")
    assert (done.status, done.out) == (2, "")
    assert "nowhere" in done.err
    assert "--region" in done.err


def test_trust_policy_limit_flag_increases_the_quota(offline: Offline) -> None:
    accounts = [f"--service-account=shop/cart-{number}" for number in range(60)]
    done = offline("role", "cart", "--issuer", ISSUER, *accounts, "--trust-policy-limit", "4096")
    assert (done.status, done.err) == (0, "")
