"""Provide facts that several tests of checks use."""

from typing import Any

from sidecar.doctor.finding import Finding, run_checks
from sidecar.role import Role
from sidecar.token import decode_token
from tests.support.fakes.clock import EPOCH as NOW
from tests.support.fakes.tokens import service_account_token

ROLE = Role("default", "arn:aws:iam::111122223333:role/app", "/token", None, 3600)
TOKEN = decode_token(service_account_token(NOW).encode(), "/token")


def by_name(checks: Any, facts: Any) -> dict[str, Finding]:
    return dict(run_checks(checks, facts))
