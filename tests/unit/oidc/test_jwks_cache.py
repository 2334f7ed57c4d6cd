"""Test an issuer's keys on disk: the time of their use, their fetches, and the reported errors."""

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from sidecar.oidc.jwks import IssuerError, Published
from sidecar.oidc.jwks_cache import DEFAULT_FRESH_SECONDS, MAX_FRESH_SECONDS, Found, KeyCache, find_keys, user_cache
from sidecar.oidc.key_rotation import rotation_outlook
from sidecar.token import decode_token
from tests.support.fakes.clock import EPOCH as NOW
from tests.support.fakes.tokens import service_account_token

ISSUER = "https://oidc.example.com/id/A"
EKS = "https://oidc.eks.eu-west-1.amazonaws.com/id/0123456789ABCDEF0123456789ABCDEF"
DAY = 86_400.0


class Source:
    """A fake issuer. `answer` holds the published keys, or the error to raise. The issuer counts its requests."""

    def __init__(self, *kids: str, **fields: Any) -> None:
        self.answer: Published | IssuerError = published(*kids, **fields)
        self.requests = 0

    async def fetch(self, _issuer: str) -> Published:
        self.requests += 1
        if isinstance(self.answer, IssuerError):
            raise self.answer
        return self.answer


def published(*kids: str, **fields: Any) -> Published:
    return Published([{"kid": kid} for kid in kids], **fields)


DOWN = IssuerError("dns", ISSUER, "does not resolve here")


@pytest.fixture
def cache(tmp_path: Path) -> KeyCache:
    return KeyCache(str(tmp_path / "irsa-sidecar" / "keys"))


async def find(source: Source, cache: KeyCache, at: float = NOW, kid: str = "a") -> Found:
    return await find_keys(ISSUER, kid, cache, source.fetch, at)


@pytest.mark.parametrize(
    ("max_age", "fresh_seconds"),
    [(3600.0, 3600.0), (None, DEFAULT_FRESH_SECONDS), (10 * DAY, MAX_FRESH_SECONDS), (0.0, 0.0)],
)
async def test_keys_are_used_for_as_long_as_the_issuer_allows(
    cache: KeyCache, max_age: float | None, fresh_seconds: float
) -> None:
    source = Source("a", max_age_seconds=max_age)
    assert (await find(source, cache)).is_new
    if fresh_seconds:
        found = await find(source, cache, NOW + fresh_seconds - 1)
        assert (found.is_new, found.kept.keys, source.requests) == (False, [{"kid": "a"}], 1)
    assert (await find(source, cache, NOW + fresh_seconds)).is_new
    assert source.requests == 2


async def test_unknown_key_id_is_fetched_while_keys_are_fresh(cache: KeyCache) -> None:
    source = Source("a", max_age_seconds=3600.0)
    await find(source, cache)
    source.answer = published("b", "a", max_age_seconds=3600.0)
    found = await find(source, cache, NOW + 1, kid="b")
    assert (found.is_new, source.requests) == (True, 2)
    assert not (await find(source, cache, NOW + 2, kid="b")).is_new


async def test_stored_keys_are_used_while_the_issuer_is_down(cache: KeyCache) -> None:
    source = Source("a", max_age_seconds=60.0)
    await find(source, cache)
    source.answer = DOWN
    found = await find(source, cache, NOW + 30 * DAY)
    assert (found.kept.keys, found.is_new, found.last_error) == ([{"kid": "a"}], False, DOWN)
    source.answer = published("a")
    assert (await find(source, cache, NOW + 30 * DAY)).last_error is None


async def test_issuer_error_is_raised_without_stored_keys(cache: KeyCache) -> None:
    source = Source()
    source.answer = DOWN
    with pytest.raises(IssuerError):
        await find(source, cache)


async def test_keys_with_cache_control_no_store_are_not_stored(cache: KeyCache) -> None:
    source = Source("a", max_age_seconds=0.0, may_store=False)
    await find(source, cache)
    assert cache.load(ISSUER) is None


async def test_keys_from_the_future_are_fetched_again(cache: KeyCache) -> None:
    """Set the clock back. The remaining time for the stored keys is then unknown."""
    source = Source("a", max_age_seconds=3600.0)
    await find(source, cache)
    assert (await find(source, cache, NOW - DAY)).is_new


async def test_two_issuers_do_not_share_keys(cache: KeyCache) -> None:
    await find(Source("a"), cache)
    assert cache.load(ISSUER + "B") is None


@pytest.mark.parametrize(
    "spoil",
    [
        b"",
        b"not json",
        b"[" * 100_000,
        b"[]",
        b"{}",
        json.dumps({"issuer": ISSUER, "keys": "a", "fetched_at": 1, "fresh_until": 9e9, "first_seen": {}}).encode(),
        json.dumps({"issuer": ISSUER, "keys": [], "fetched_at": "x", "fresh_until": 9e9, "first_seen": {}}).encode(),
        json.dumps({"issuer": ISSUER, "keys": [], "fetched_at": 1, "fresh_until": 9e9, "first_seen": []}).encode(),
        json.dumps({"issuer": ISSUER, "keys": [], "fetched_at": 10**400, "fresh_until": 9, "first_seen": {}}).encode(),
        json.dumps({"issuer": "else", "keys": [], "fetched_at": 1, "fresh_until": 9e9, "first_seen": {}}).encode(),
    ],
)
async def test_damaged_file_is_ignored_and_replaced(cache: KeyCache, tmp_path: Path, spoil: bytes) -> None:
    await find(Source("a"), cache)
    (file,) = (tmp_path / "irsa-sidecar" / "keys").iterdir()
    file.write_bytes(spoil)
    source = Source("a")
    assert (await find(source, cache)).is_new
    assert not (await find(source, cache)).is_new


async def test_cache_file_is_private_and_leaves_no_temporary_file(cache: KeyCache, tmp_path: Path) -> None:
    await find(Source("a"), cache)
    (file,) = (tmp_path / "irsa-sidecar" / "keys").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


async def test_unwritable_directory_disables_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    for directory in (None, str(blocked), "/proc/1/nowhere"):
        source = Source("a")
        for _ in range(2):
            assert (await find(source, KeyCache(directory))).is_new

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    assert (await find(Source("a"), KeyCache(str(tmp_path)))).is_new
    assert sorted(os.listdir(tmp_path)) == ["file"]


@pytest.mark.parametrize(
    ("environ", "where"),
    [
        ({"XDG_CACHE_HOME": "/cache", "HOME": "/home/a"}, "/cache/irsa-sidecar/keys"),
        ({"XDG_CACHE_HOME": "relative", "HOME": "/home/a"}, "/home/a/.cache/irsa-sidecar/keys"),
        ({"HOME": "/home/a"}, "/home/a/.cache/irsa-sidecar/keys"),
        ({"HOME": ""}, None),
        ({}, None),
    ],
)
def test_cache_is_in_the_users_cache_directory(environ: dict[str, str], where: str | None) -> None:
    assert user_cache(environ)._directory == where


# The time at which the issuer removes the key


async def outlook(cache: KeyCache, issuer: str, at: float, *kids: str, **token: Any) -> str:
    found = await find_keys(issuer, kids[0], cache, Source(*kids, max_age_seconds=0.0).fetch, at)
    decoded = decode_token(service_account_token(at, iss=issuer, **token).encode(), "/token")
    return rotation_outlook(decoded, kids[0], found.kept)


async def test_rotation_outlook_of_eks_is_seven_days(cache: KeyCache) -> None:
    """NOW is 2027-01-15T08:00:00Z. Use a token that was issued five days later, which does not change the result."""
    for days in (0, 5):
        sentence = await outlook(cache, EKS, NOW + days * DAY, "a")
        assert "a signs until 2027-01-22T08:00:00Z" in sentence
        assert "2027-01-23T08:00:00Z at the latest" in sentence


async def test_rotation_outlook_counts_from_the_tokens_issue_time(cache: KeyCache) -> None:
    assert "signs until 2027-01-21T08:00:00Z" in await outlook(cache, EKS, NOW, "a", iat=int(NOW - DAY))


async def test_rotation_outlook_reports_a_newer_key(cache: KeyCache) -> None:
    await outlook(cache, EKS, NOW, "a")
    sentence = await outlook(cache, EKS, NOW + DAY, "a", "b")
    assert "has rotated its keys" in sentence
    assert "key b since 2027-01-16T08:00:00Z" in sentence


async def test_rotation_outlook_of_other_issuers_is_unknown(cache: KeyCache) -> None:
    sentence = await outlook(cache, ISSUER, NOW, "a")
    assert "does not publish when it will remove key a, but this token needs it until 2027-01-15T09:00:00Z" in sentence
