"""Test the rotation of a CA: the API server trusts a new CA before it sees a certificate that the CA signed."""

from datetime import UTC, datetime

import pytest

from sidecar.webhook.certificate.ca_rollover import (
    KEPT_SECONDS,
    MAX_KEPT,
    SETTLED_SECONDS,
    Authorities,
    Trust,
    authorities_in,
    authorities_to_trust,
    ca_bundle_of,
    seconds_until_settled,
    updated_trust,
)
from sidecar.webhook.certificate.issue import renewed

OLD, NEW, OTHER = b"old", b"new", b"other"


def test_new_authority_waits_until_the_api_server_trusts_it() -> None:
    trust = updated_trust(Trust(), [(OLD,)], (NEW, OLD), now=0.0)
    assert authorities_to_trust(trust, (NEW, OLD), now=0.0) == (NEW, OLD)
    trust = updated_trust(trust, [(NEW, OLD)], (NEW, OLD), now=1.0)
    assert seconds_until_settled(trust, OLD, now=1.0) == SETTLED_SECONDS - 1.0
    assert seconds_until_settled(trust, NEW, now=1.0) == SETTLED_SECONDS
    assert seconds_until_settled(trust, NEW, now=1.0 + SETTLED_SECONDS) == 0.0


def test_authority_that_was_removed_and_added_waits_again() -> None:
    trust = updated_trust(Trust(), [(NEW,)], (NEW,), now=0.0)
    trust = updated_trust(trust, [()], (NEW,), now=10.0)
    assert seconds_until_settled(trust, NEW, now=10.0) == SETTLED_SECONDS
    trust = updated_trust(trust, [(NEW,)], (NEW,), now=12.0)
    assert seconds_until_settled(trust, NEW, now=13.0) == SETTLED_SECONDS - 1.0


def test_authority_is_trusted_once_every_ca_bundle_has_it() -> None:
    trust = updated_trust(Trust(), [(OLD, NEW), (OLD,)], (NEW,), now=0.0)
    assert seconds_until_settled(trust, NEW, now=0.0 + SETTLED_SECONDS) == SETTLED_SECONDS
    assert seconds_until_settled(trust, OLD, now=0.0 + SETTLED_SECONDS) == 0.0


def test_unneeded_authority_stays_for_an_hour() -> None:
    trust = updated_trust(Trust(), [(NEW, OLD)], (NEW,), now=0.0)
    assert authorities_to_trust(trust, (NEW,), now=KEPT_SECONDS - 1) == (NEW, OLD)
    assert authorities_to_trust(trust, (NEW,), now=KEPT_SECONDS) == (NEW,)
    # If the authority is needed again for a while, the hour starts again.
    trust = updated_trust(trust, [(NEW, OLD)], (NEW, OLD), now=KEPT_SECONDS - 1)
    trust = updated_trust(trust, [(NEW, OLD)], (NEW,), now=KEPT_SECONDS)
    assert authorities_to_trust(trust, (NEW,), now=KEPT_SECONDS + 1) == (NEW, OLD)


def test_number_of_unneeded_authorities_is_limited() -> None:
    trust = Trust()
    ca_bundle: Authorities = (OLD,)
    for number in range(30):
        needed = (b"%d" % number, OLD)
        trust = updated_trust(trust, [ca_bundle], needed, now=float(number))
        ca_bundle = authorities_to_trust(trust, needed, now=float(number))
    assert len(ca_bundle) == MAX_KEPT + 2
    assert {b"29", b"28", OLD} <= set(ca_bundle)


@pytest.mark.parametrize("text", ["", "AAAA", "not base64!"])
def test_malformed_ca_bundle_has_no_authorities(text: str) -> None:
    assert authorities_in(text) == ()


def test_ca_bundle_contains_its_authorities() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    both = tuple(renewed(None, ["a"], now).authorities[0].certificate for _ in range(2))
    assert authorities_in(ca_bundle_of(both)) == both
