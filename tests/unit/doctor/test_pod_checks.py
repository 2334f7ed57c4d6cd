"""Test the Pod checks of grace periods, users, empty variables and names."""

from copy import deepcopy
from typing import Any

import pytest

from sidecar.doctor.finding import Status
from sidecar.doctor.probes.pod import parse_pod_name
from sidecar.errors import ConfigurationError
from tests.support.fakes.api_server import FakeApiServer
from tests.unit.doctor.pod_document import POD, PODS, app, examine, sidecar, statuses, token_source

pytestmark = pytest.mark.usefixtures("nothing_of_this_machine")


@pytest.mark.parametrize(
    "where",
    ["", "a/b/c", "/cart", "shop/", "Cart", "shop/../cart", "cart\n", "shop/cart?x=1", "a" * 254, "-cart", "sh op/cart",
     "cart\x1b[2J"],
)  # fmt: skip
def test_invalid_pod_names_are_rejected(where: str) -> None:
    with pytest.raises(ConfigurationError, match="NAME or NAMESPACE/NAME"):
        parse_pod_name(where)


@pytest.mark.parametrize(
    ("where", "parsed"),
    [
        ("cart", (None, "cart")),
        ("shop/cart-7d4b9c-x2x9z", ("shop", "cart-7d4b9c-x2x9z")),
        ("shop/ip-10-0-0-1.ec2.internal", ("shop", "ip-10-0-0-1.ec2.internal")),
    ],
)
def test_pod_names_are_parsed(where: str, parsed: tuple[str | None, str]) -> None:
    assert parse_pod_name(where) == parsed


GRACE_PERIODS = [
    # grace period, token lifetime, session duration, whether the result is a warning
    (None, 86400, None, False),
    (20880, 86400, None, False),  # a fifth of the token's lifetime plus an hour of session: 86400 / 5 + 3600
    (20881, 86400, None, True),
    (4320, 3600, "3600", False),
    (4321, 3600, "3600", True),
    (5000, 3600, "43200", False),
    (5000, 3600, "max", True),
    (86400, None, "not a number", True),
]


@pytest.mark.parametrize("row", GRACE_PERIODS)
async def test_grace_period_beyond_the_credentials_is_a_warning(
    api: FakeApiServer, environ: dict[str, str], row: tuple[int | None, int | None, str | None, bool]
) -> None:
    grace, token, duration, warns = row
    pod = deepcopy(POD)
    pod["spec"]["terminationGracePeriodSeconds"] = grace
    token_source(pod)["expirationSeconds"] = token
    sidecar(pod)["env"].append({"name": "IRSA_SIDECAR_DURATION", "value": duration})
    api.put(f"{PODS}/cart", pod)
    found = statuses(await examine(environ))
    assert (found.get("pod.termination") is Status.WARNING) is warns


@pytest.mark.parametrize(
    ("users", "words"),
    [
        ((None, None, None), "app has no runAsUser and may run as 65532; proxy has no runAsUser"),
        ((None, 1000, None), ": proxy has no runAsUser and may run as 65532"),
        ((None, 1000, 65532), ": proxy runs as 65532"),
        ((65532, None, 7), ": app runs as 65532"),
        ((1000, None, None), ": app runs as 1000; proxy runs as 1000"),
        ((None, 1, 0), ": proxy runs as root and can become 65532"),
        ((None, 1, 2), ""),
        ((1000, 1, 2), ""),
    ],
)
async def test_container_with_the_sidecars_user_is_not_isolated(
    api: FakeApiServer,
    environ: dict[str, str],
    users: tuple[int | None, int | None, int | None],
    words: str,
) -> None:
    """
    Compare the user of the Pod with the users of `app` and `proxy`.

    The sidecar of this Pod sets no user, so the Pod's user applies, or else the image's user.
    """
    pod = deepcopy(POD)
    pod["spec"] |= {"shareProcessNamespace": True, "securityContext": {"runAsUser": users[0]}}
    for container, user in zip(pod["spec"]["containers"], users[1:], strict=True):
        container["securityContext"] = {"runAsUser": user}
    api.put(f"{PODS}/cart", pod)
    report = await examine(environ)
    (row,) = [row for row in report.rows if row.check == "isolation"]
    assert row.finding.status is (Status.WARNING if words else Status.OK)
    assert words in row.finding.observed


EMPTY_VALUES: tuple[dict[str, Any], ...] = {"value": ""}, {}, {"valueFrom": None}


@pytest.mark.parametrize("empty", EMPTY_VALUES)
@pytest.mark.parametrize("name", ["AWS_ACCESS_KEY_ID", "AWS_SESSION_TOKEN", "AWS_PROFILE", "HTTP_PROXY"])
async def test_empty_variable_of_a_container_passes(
    api: FakeApiServer, environ: dict[str, str], name: str, empty: dict[str, Any]
) -> None:
    pod = deepcopy(POD)
    app(pod)["env"].append({"name": name, **empty})
    api.put(f"{PODS}/cart", pod)
    assert statuses(await examine(environ)) == {"inside.all": Status.SKIPPED}


@pytest.mark.parametrize("empty", EMPTY_VALUES)
@pytest.mark.parametrize(
    ("name", "check"),
    [
        ("AWS_WEB_IDENTITY_TOKEN_FILE", "environment.web_identity"),
        ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "environment.relative_uri"),
    ],
)
async def test_empty_variable_that_an_sdk_reads_is_a_warning(
    api: FakeApiServer, environ: dict[str, str], name: str, check: str, empty: dict[str, Any]
) -> None:
    pod = deepcopy(POD)
    app(pod)["env"].append({"name": name, **empty})
    api.put(f"{PODS}/cart", pod)
    assert statuses(await examine(environ)) == {check: Status.WARNING, "inside.all": Status.SKIPPED}


async def test_no_proxy_from_a_config_map_is_a_warning(api: FakeApiServer, environ: dict[str, str]) -> None:
    pod = deepcopy(POD)
    source = {"valueFrom": {"configMapKeyRef": {"name": "proxy", "key": "x"}}}
    app(pod)["env"] += [{"name": "HTTP_PROXY", **source}, {"name": "NO_PROXY", **source}]
    api.put(f"{PODS}/cart", pod)
    (row,) = [row for row in (await examine(environ)).rows if row.check == "no_proxy"]
    assert row.finding.status is Status.WARNING
    assert "does not show whether NO_PROXY includes 127.0.0.1" in row.finding.observed
