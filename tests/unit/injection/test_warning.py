"""Test the warnings about shared processes and long terminations."""

import json
from typing import Any

import pytest

from sidecar.injection.inject import inject
from sidecar.injection.warning import reason_of
from sidecar.kubernetes.document import Document
from tests.unit.injection.pods import (
    ACCOUNT,
    ARN,
    OTHER_ARN,
    PLAIN,
    SETTINGS,
    P,
    app,
    pod,
)

SHARED = "TokenReadableByContainer"


def user(number: Any) -> Document:
    return {"securityContext": {"runAsUser": number}}


def root(**capabilities: list[str]) -> Document:
    return {"securityContext": {"runAsUser": 0, "capabilities": capabilities}}


@pytest.mark.parametrize(
    ("of_container", "of_pod", "is_warned"),
    [
        ({}, {}, True),
        ({}, user(65532), True),
        (user(65532), {}, True),
        (user(65532), user(1000), True),
        (user(None), {}, True),
        ({"securityContext": None}, {"securityContext": {"runAsNonRoot": True}}, True),
        (user(1000), {}, False),
        (user(1000), user(65532), False),
        (user(None), user(1000), False),
        ({}, user(1000), False),
        ({}, user(65533), False),
        (user(0), {}, True),
        ({}, user(0), True),
        (root(drop=["NET_RAW", "CHOWN"]), {}, True),
        (root(drop=["ALL"], add=["SYS_PTRACE"]), {}, True),
        (root(drop=["ALL"], add=["CAP_SETUID"]), {}, True),
        (root(drop=["SETUID"], add=["ALL"]), {}, True),
        ({"securityContext": {"runAsUser": 0, "privileged": True, "capabilities": {"drop": ["ALL"]}}}, {}, True),
        (root(drop=["ALL"]), {}, False),
        (root(drop=["all"], add=["NET_BIND_SERVICE"]), {}, False),
        (root(drop=["CAP_SETUID"]), user(65532), False),
    ],
)
@pytest.mark.parametrize("is_init", [False, True])
def test_container_that_can_read_the_token_causes_a_warning(
    of_container: Document,
    of_pod: Document,
    is_warned: bool,  # noqa: FBT001
    is_init: bool,  # noqa: FBT001
) -> None:
    mine: Document = {"name": "mine", "image": "i", **of_container}
    safe = app() | user(7)
    original = pod(safe, initContainers=[mine], **of_pod) if is_init else pod(safe, mine, **of_pod)
    assert inject(original, ACCOUNT, SETTINGS).warnings == ()
    for value in (False, None):
        original["spec"]["shareProcessNamespace"] = value
        assert inject(original, ACCOUNT, SETTINGS).warnings == ()
    original["spec"]["shareProcessNamespace"] = True
    warnings = inject(original, ACCOUNT, SETTINGS).warnings
    assert [reason_of(warning) for warning in warnings] == ([SHARED] if is_warned else [])
    assert all(warning.startswith("Container mine ") and "65532" in warning for warning in warnings)


def test_skipped_container_that_reads_the_token_causes_a_warning() -> None:
    original = pod(app() | user(7), {"name": "log", "image": "i"}, shareProcessNamespace=True)
    original["metadata"]["annotations"] = {f"{P}skip-containers": "log"}
    assert [reason_of(warning) for warning in inject(original, ACCOUNT, SETTINGS).warnings] == [SHARED]


def test_init_container_before_sidecar_cannot_read_the_token() -> None:
    original = pod(app() | user(7), initContainers=[{"name": "setup", "image": "i"}], shareProcessNamespace=True)
    assert SHARED not in [reason_of(warning) for warning in inject(original, ACCOUNT, PLAIN).warnings]


ROLES_OF_TWO_DURATIONS = json.dumps(
    [
        {"name": "a", "role_arn": ARN, "duration": 900, "containers": ["log"]},
        {"name": "b", "role_arn": ARN, "duration": 7200},
    ]
)
CHAINED = f"[{{name: a, role_arn: '{ARN}', chain: [{{role_arn: '{OTHER_ARN}', duration: 900}}]}}]"


@pytest.mark.parametrize(
    ("annotations", "most"),
    [
        ({}, 86_400 // 5 + 3600),
        ({"token-expiration": "600"}, 120 + 3600),
        ({"token-expiration": "3600", "duration": "900"}, 720 + 900),
        ({"token-expiration": "3600", "duration": "43200"}, 720 + 43_200),
        ({"token-expiration": "3600", "duration": "max"}, 720 + 3600),
        ({"token-expiration": "3600", "roles": ROLES_OF_TWO_DURATIONS}, 720 + 900),
        ({"token-expiration": "3600", "roles": CHAINED}, 720 + 900),
    ],
)
def test_termination_longer_than_credentials_causes_a_warning(annotations: dict[str, str], most: int) -> None:
    def warnings(grace: int | None) -> tuple[str, ...]:
        original = pod(app(), {"name": "log", "image": "i"}, terminationGracePeriodSeconds=grace)
        original["metadata"]["annotations"] = {P + name: value for name, value in annotations.items()}
        return inject(original, ACCOUNT, SETTINGS).warnings

    assert [warnings(grace) for grace in (None, 0, 30, most)] == [()] * 4
    for grace in (most + 1, 10**18):
        (warning,) = warnings(grace)
        assert reason_of(warning) == "TerminationOutlivesCredentials"
        assert f"terminationGracePeriodSeconds is {grace}" in warning
        assert f"after {most} s" in warning
