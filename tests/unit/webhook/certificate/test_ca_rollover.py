"""In which order the API server hears of an authority, meets what it signed, and forgets it."""

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


def test_what_a_new_authority_signed_waits_until_it_has_been_trusted_for_a_while() -> None:
    trust = updated_trust(Trust(), [(OLD,)], (NEW, OLD), now=0.0)
    assert authorities_to_trust(trust, (NEW, OLD), now=0.0) == (NEW, OLD)
    trust = updated_trust(trust, [(NEW, OLD)], (NEW, OLD), now=1.0)
    assert seconds_until_settled(trust, OLD, now=1.0) == SETTLED_SECONDS - 1.0
    assert seconds_until_settled(trust, NEW, now=1.0) == SETTLED_SECONDS
    assert seconds_until_settled(trust, NEW, now=1.0 + SETTLED_SECONDS) == 0.0


def test_an_authority_that_was_taken_out_in_between_waits_from_the_beginning() -> None:
    trust = updated_trust(Trust(), [(NEW,)], (NEW,), now=0.0)
    trust = updated_trust(trust, [()], (NEW,), now=10.0)
    assert seconds_until_settled(trust, NEW, now=10.0) == SETTLED_SECONDS
    trust = updated_trust(trust, [(NEW,)], (NEW,), now=12.0)
    assert seconds_until_settled(trust, NEW, now=13.0) == SETTLED_SECONDS - 1.0


def test_it_is_trusted_once_every_webhook_of_the_configuration_trusts_it() -> None:
    trust = updated_trust(Trust(), [(OLD, NEW), (OLD,)], (NEW,), now=0.0)
    assert seconds_until_settled(trust, NEW, now=0.0 + SETTLED_SECONDS) == SETTLED_SECONDS
    assert seconds_until_settled(trust, OLD, now=0.0 + SETTLED_SECONDS) == 0.0


def test_one_that_nobody_needs_here_stays_for_an_hour_as_another_replica_may() -> None:
    trust = updated_trust(Trust(), [(NEW, OLD)], (NEW,), now=0.0)
    assert authorities_to_trust(trust, (NEW,), now=KEPT_SECONDS - 1) == (NEW, OLD)
    assert authorities_to_trust(trust, (NEW,), now=KEPT_SECONDS) == (NEW,)
    # Needed in between, it is kept from then on.
    trust = updated_trust(trust, [(NEW, OLD)], (NEW, OLD), now=KEPT_SECONDS - 1)
    trust = updated_trust(trust, [(NEW, OLD)], (NEW,), now=KEPT_SECONDS)
    assert authorities_to_trust(trust, (NEW,), now=KEPT_SECONDS + 1) == (NEW, OLD)


def test_of_a_secret_that_is_spoilt_without_end_only_the_last_authorities_stay() -> None:
    trust = Trust()
    ca_bundle: Authorities = (OLD,)
    for number in range(30):
        needed = (b"%d" % number, OLD)
        trust = updated_trust(trust, [ca_bundle], needed, now=float(number))
        ca_bundle = authorities_to_trust(trust, needed, now=float(number))
    assert len(ca_bundle) == MAX_KEPT + 2
    assert {b"29", b"28", OLD} <= set(ca_bundle)


@pytest.mark.parametrize("text", ["", "AAAA", "not base64!"])
def test_a_bundle_that_is_none_holds_no_authority(text: str) -> None:
    assert authorities_in(text) == ()


def test_a_bundle_holds_what_was_put_into_it() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    both = tuple(renewed(None, ["a"], now).authorities[0].certificate for _ in range(2))
    assert authorities_in(ca_bundle_of(both)) == both
