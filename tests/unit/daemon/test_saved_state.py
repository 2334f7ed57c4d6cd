"""Test the format of saved credentials. The daemon uses them only if they are complete and valid on both clocks."""

import hashlib
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.clock import Instant
from sidecar.credentials import Credentials
from sidecar.daemon.saved_state import Owner, Saved, UnusableStateError, decode, encode, file_name, role_digest
from sidecar.refresh.max_duration import MaxDuration
from sidecar.refresh.schedule import CLOCK_STEP_SECONDS, Schedule
from sidecar.role import ChainStep, PodNames, Role
from sidecar.sts.expiration import MAX_SESSION_SECONDS
from sidecar.sts.settings import StsSettings

SAVED_AT = Instant(1_800_000_000.0, 5_000.25)
HOUR_LATER = SAVED_AT.later(3600)
CREDENTIALS = Credentials(
    "ASIA1",
    "secret/one+",
    "session" * 700,
    datetime.fromtimestamp(HOUR_LATER.wall, UTC),
    "arn:aws:iam::111122223333:role/a",
    "111122223333",
)
SAVED = Saved(
    credentials=CREDENTIALS,
    expires=HOUR_LATER,
    arrived_at=SAVED_AT.wall,
    schedule=Schedule(SAVED_AT.later(1800), SAVED_AT, failures=2, attempted_at=SAVED_AT.monotonic),
    max_duration=MaxDuration(7200, 14_400, 4_000.0),
    health={"last_error": None, "skew_seconds": 0.25, "session_seconds": 3600},
)
OWNER = Owner("digest", "boot")


def saved_bytes(saved: Saved = SAVED, owner: Owner = OWNER, at: Instant = SAVED_AT) -> bytes:
    return encode(saved, owner, at).encode("ascii")


def reason(data: bytes, now: Instant = SAVED_AT, owner: Owner = OWNER) -> str:
    with pytest.raises(UnusableStateError) as error:
        decode(data, owner, now)
    assert "secret" not in str(error.value)
    return str(error.value)


def test_file_contains_the_whole_state() -> None:
    assert decode(saved_bytes(), OWNER, SAVED_AT.later(10)) == SAVED


def test_shift_changes_only_the_monotonic_clock() -> None:
    shifted = SAVED.shifted(-4_000.0)
    assert shifted.expires == Instant(HOUR_LATER.wall, 4_600.25)
    assert shifted.schedule.due == Instant(SAVED_AT.wall + 1800, 2_800.25)
    assert shifted.schedule.attempted_at == 1_000.25
    assert shifted.max_duration.refused_at == 0.0
    assert shifted.shifted(4_000.0) == SAVED


@given(seconds=st.floats(0, 3599.9), wall_correction=st.floats(-CLOCK_STEP_SECONDS, 0))
def test_valid_credentials_are_used(seconds: float, wall_correction: float) -> None:
    now = SAVED_AT.later(seconds)
    assert decode(saved_bytes(), OWNER, now._replace(wall=now.wall + wall_correction)) == SAVED


@given(wall=st.integers(-9000, 9000), monotonic=st.integers(-5000, 9000))
def test_expired_or_future_credentials_are_ignored(wall: int, monotonic: int) -> None:
    """Check both clocks. One clock alone can show that the credentials are expired or from the future."""
    now = Instant(SAVED_AT.wall + wall, SAVED_AT.monotonic + monotonic)
    if -CLOCK_STEP_SECONDS <= wall < 3600 and 0 <= monotonic < 3600:
        assert decode(saved_bytes(), OWNER, now).expires == HOUR_LATER
    else:
        assert reason(saved_bytes(), now)


@pytest.mark.parametrize(
    ("now", "words"),
    [
        (HOUR_LATER, "expired"),
        (Instant(HOUR_LATER.wall, SAVED_AT.monotonic + 60), "expired"),
        (Instant(SAVED_AT.wall + 60, HOUR_LATER.monotonic), "expired"),
        (Instant(SAVED_AT.wall - 3600, SAVED_AT.monotonic + 60), "before the time"),
        (Instant(SAVED_AT.wall + 60, 60.0), "before the time"),
    ],
)
def test_reason_separates_expired_and_future_credentials(now: Instant, words: str) -> None:
    assert words in reason(saved_bytes(), now)


@given(where=st.integers(0, len(saved_bytes()) - 1), bit=st.integers(0, 7))
def test_any_changed_bit_is_detected(where: int, bit: int) -> None:
    data = bytearray(saved_bytes())
    data[where] ^= 1 << bit
    assert reason(bytes(data))


@given(length=st.integers(0, len(saved_bytes()) - 2))
def test_any_truncation_is_detected(length: int) -> None:
    assert reason(saved_bytes()[:length])


@given(data=st.binary(max_size=300))
def test_arbitrary_bytes_are_ignored(data: bytes) -> None:
    assert reason(data)
    if data.strip(b"\n"):
        assert reason(saved_bytes() + data)


@pytest.mark.parametrize("field", ["expires", "credentials", "schedule", "max_duration", "owner", "saved_at"])
@pytest.mark.parametrize(
    "value", ["null", "[]", "{}", "-1", '"x"', "[1]", "1e999", "[NaN,NaN]", "9" * 5000, "[" * 5000]
)
def test_other_shape_with_a_valid_checksum_is_ignored(field: str, value: str) -> None:
    """Use a field of another type, because another version of irsa-sidecar may have written the file."""
    body = saved_bytes().decode().partition("\n")[2].strip()
    before, _, after = body.partition(f'"{field}": ')
    damaged = f'{before}"{field}": {value}, "rest": {after}'
    checksum = hashlib.sha256(damaged.encode()).hexdigest()
    assert reason(f"irsa-sidecar state 1 {checksum}\n{damaged}\n".encode())


def rewritten(part: str, field: str, value: Any) -> bytes:
    """Return the file with another value of one field, and a valid checksum."""
    body = json.loads(saved_bytes().decode().partition("\n")[2])
    body[part][field] = value
    text = json.dumps(body)
    return f"irsa-sidecar state 1 {hashlib.sha256(text.encode()).hexdigest()}\n{text}\n".encode()


ODD_VALUES = ["x", [1], {}, -(10**400), float("inf"), float("nan")]


@pytest.mark.parametrize("value", ODD_VALUES, ids=lambda value: str(value)[:10])
@pytest.mark.parametrize(
    ("part", "field"),
    [
        *(("credentials", name) for name in ("token_bytes", "token_percent", "expires_at")),
        *(("schedule", name) for name in ("due", "decided", "failures", "attempted_at", "wants_new_token")),
        *(("max_duration", name) for name in ("granted_seconds", "refused_seconds", "refused_at")),
    ],
)
def test_wrong_value_with_a_valid_checksum_is_ignored(part: str, field: str, value: Any) -> None:
    assert reason(rewritten(part, field, value))


@pytest.mark.parametrize("value", [7, [7], None, {}], ids=str)
@pytest.mark.parametrize("field", ["access_key_id", "secret_access_key", "session_token", "role_arn", "account_id"])
def test_credentials_that_are_not_text_are_ignored(field: str, value: Any) -> None:
    assert reason(rewritten("credentials", field, value))


def test_refresh_after_the_expiration_is_ignored() -> None:
    """A state with a refresh long after the expiration is ignored. The role would have no credentials until then."""
    far = SAVED.schedule.due.later(1e9)
    assert "refresh" in reason(saved_bytes(SAVED._replace(schedule=SAVED.schedule._replace(due=far))))
    soon = SAVED._replace(expires=SAVED_AT.later(30), schedule=SAVED.schedule._replace(due=SAVED_AT.later(300)))
    assert decode(saved_bytes(soon), OWNER, SAVED_AT) == soon  # a back-off can also end after the expiration


@pytest.mark.parametrize("clock", ["wall", "monotonic"])
def test_lifetime_longer_than_any_session_is_ignored(clock: str) -> None:
    far = SAVED_AT.later(MAX_SESSION_SECONDS + 1)
    assert "any session" in reason(saved_bytes(SAVED._replace(expires=far)))
    one_clock = HOUR_LATER._replace(**{clock: getattr(far, clock)})
    assert decode(saved_bytes(SAVED._replace(expires=one_clock)), OWNER, SAVED_AT).expires == one_clock


def test_state_of_another_boot_or_configuration_is_ignored() -> None:
    assert "restarted" in reason(saved_bytes(), owner=OWNER._replace(boot_id="other"))
    assert "configuration" in reason(saved_bytes(), owner=OWNER._replace(role_digest="other"))


# The digest of a role's configuration

ROLE = Role("default", "arn:aws:iam::111122223333:role/a", "/token", None, 3600)
STS = StsSettings("eu-west-1", None, use_fips=False, use_dualstack=False, ca_bundle=None)
CHAIN = (ChainStep("arn:aws:iam::111122223333:role/b"),)

CHANGES: list[dict[str, Any]] = [
    {"name": "other"},
    {"role_arn": "arn:aws:iam::111122223333:role/b"},
    {"token_file": "/other"},
    {"session_name": "x"},
    {"duration_seconds": 900},
    {"duration_seconds": None},
    {"policy": "{}"},
    {"policy_arns": ("arn:aws:iam::aws:policy/x",)},
    {"chain": CHAIN},
    {"chain": (CHAIN[0]._replace(external_id="x"),)},
    {"chain": (CHAIN[0]._replace(tags=(("a", "b"),)),)},
    {"chain": (CHAIN[0]._replace(duration_seconds=900),)},
    {"chain": (*CHAIN, *CHAIN)},
    {"pod_names": PodNames(namespace="shop")},
]


def test_digest_distinguishes_configurations() -> None:
    digests = [role_digest(ROLE._replace(**change), STS) for change in [{}, *CHANGES]]
    digests += [role_digest(ROLE, STS._replace(region="eu-north-1"))]
    digests += [role_digest(ROLE, STS._replace(endpoint_url="http://127.0.0.1:1"))]
    assert len(set(digests)) == len(digests)
    assert set(ROLE._fields) == {
        *(name for change in CHANGES for name in change),
        "authorization_token_file",
        "allow_uids",
        "containers",
    }, "decide for the new field whether it changes what STS grants"


@pytest.mark.parametrize(
    "change",
    [{"allow_uids": frozenset({1000, 1})}, {"authorization_token_file": "/x"}, {"containers": ("app",)}],
)
def test_digest_ignores_fields_that_sts_does_not_use(change: dict[str, Any]) -> None:
    assert role_digest(ROLE._replace(**change), STS) == role_digest(ROLE, STS)


@given(names=st.sets(st.text(max_size=80), min_size=2, max_size=20))
def test_file_names_are_safe_for_any_role_name(names: set[str]) -> None:
    files = {file_name(name) for name in names}
    assert len({name.lower() for name in files}) == len(names)
    assert all(name.isascii() and "/" not in name and not name.startswith(".") and len(name) < 64 for name in files)


@pytest.mark.parametrize(
    "name", ["..", ".", "", "a/b", "../../etc/passwd", "A", "a", "\x00", "é", "\ud800", "x" * 10_000]
)
def test_file_name_for_an_unusual_role_name_is_safe(name: str) -> None:
    assert file_name(name).startswith("role-")
    assert len(file_name(name)) < 64


def test_repr_of_saved_credentials_shows_no_secret() -> None:
    assert "secret/one" not in repr(CREDENTIALS) + repr(SAVED)
