"""What each container of a Pod that uses the endpoint has in its variables and mounts, as the API shows them. Pure."""

from collections.abc import Iterator
from typing import NamedTuple

from sidecar.doctor.checks import endpoint, environment
from sidecar.doctor.checks.endpoint import EndpointFacts
from sidecar.doctor.checks.environment import ELSEWHERE, EnvironmentFacts
from sidecar.doctor.checks.pod import ADDRESS, DEFAULT_ADDRESS, SECRET_FILE, Document, PodFacts, environ_of, mount_over
from sidecar.doctor.finding import Check, Finding, Row, ok, wrong
from sidecar.doctor.report import rows


class ContainerFacts(NamedTuple):
    container: Document
    sidecar: Document


def _same_port(facts: ContainerFacts) -> Finding | None:
    url = environ_of(facts.container).get(ADDRESS, "")
    where = environ_of(facts.sidecar).get("IRSA_SIDECAR_LISTEN") or DEFAULT_ADDRESS
    if ELSEWHERE in {url, where} or not url.startswith("http://"):
        return None
    port = url.split("/")[2].rpartition(":")[2]
    if port != where.rpartition(":")[2]:
        return wrong(
            f"{ADDRESS} has port {port}, and the sidecar listens on {where}",
            "Set both to the same port, 4772 unless another program uses it",
        )
    return ok(f"port {port}, as the sidecar")


def _same_secret(facts: ContainerFacts) -> Finding | None:
    """The same volume in both, wherever it is mounted."""
    own = environ_of(facts.container).get(SECRET_FILE) or None
    asked = environ_of(facts.sidecar).get("IRSA_SIDECAR_AUTHORIZATION_TOKEN_FILE") or None
    if own is None and asked is not None:
        return wrong(
            f"the sidecar requires a secret, but the container has no {SECRET_FILE}",
            f"Mount the secret's volume in it, and set {SECRET_FILE} to the file",
        )
    if own is None or asked is None or ELSEWHERE in {own, asked}:
        return None
    mine, theirs = mount_over(facts.container, own), mount_over(facts.sidecar, asked)
    if mine is None or theirs is None or mine.get("name") != theirs.get("name"):
        return wrong(
            f"{SECRET_FILE} is {own}, which is not in the volume that the sidecar writes its secret to",
            "Mount the same volume in both containers",
        )
    return ok(f"{own}, of the volume {mine['name']}")


CONTAINER_CHECKS: tuple[Check[ContainerFacts], ...] = (
    Check("port", "do address and sidecar have the same port", _same_port),
    Check("secret", "is the sidecar's secret mounted there", _same_secret),
)

_OF_THE_ENVIRONMENT = frozenset({"keys", "web_identity", "profile", "relative_uri", "region", "metadata", "no_proxy"})
"""Those of the application's checks that its variables alone decide."""


def container_rows(facts: PodFacts) -> Iterator[Row]:
    """The meaning of each container's variables to its SDK."""
    sidecar = facts.sidecar
    variables = [check for check in environment.CHECKS if check.name in _OF_THE_ENVIRONMENT]
    address = [check for check in endpoint.CHECKS if check.name == "address"]
    for container in facts.applications if sidecar is not None else ():
        environ, name = environ_of(container), str(container.get("name"))
        if not environ.get(ADDRESS):
            continue
        yield from rows("environment", variables, EnvironmentFacts(environ), container=name)
        if environ[ADDRESS] != ELSEWHERE:
            told = EndpointFacts(environ[ADDRESS], ADDRESS, is_expected=True, now=0.0)
            yield from rows("endpoint", address, told, container=name)
        yield from rows("endpoint", CONTAINER_CHECKS, ContainerFacts(container, sidecar or {}), container=name)
