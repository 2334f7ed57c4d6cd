"""Check the variables and mounts of each container that uses the endpoint, as shown by the API. Pure."""

from collections.abc import Iterator
from typing import NamedTuple

from sidecar.doctor.checks import endpoint, environment
from sidecar.doctor.checks.endpoint import EndpointFacts
from sidecar.doctor.checks.environment import VALUE_NOT_SHOWN, EnvironmentFacts
from sidecar.doctor.checks.pod import ADDRESS, DEFAULT_ADDRESS, SECRET_FILE, Document, PodFacts, environ_of, mount_over
from sidecar.doctor.finding import Check, Finding, Row, failed, ok
from sidecar.doctor.report import rows


class ContainerFacts(NamedTuple):
    """An application's container and the sidecar's container, as in the Pod's document."""

    container: Document
    sidecar: Document


def _same_port(facts: ContainerFacts) -> Finding | None:
    url = environ_of(facts.container).get(ADDRESS, "")
    listen = environ_of(facts.sidecar).get("IRSA_SIDECAR_LISTEN") or DEFAULT_ADDRESS
    if VALUE_NOT_SHOWN in {url, listen} or not url.startswith("http://"):
        return None
    port = url.split("/")[2].rpartition(":")[2]
    if port != listen.rpartition(":")[2]:
        return failed(
            f"{ADDRESS} has port {port}, but the sidecar listens on {listen}",
            "Set both to the same port, 4772 unless another program uses it",
        )
    return ok(f"port {port}, like the sidecar")


def _same_secret(facts: ContainerFacts) -> Finding | None:
    """Compare the secret's volumes, because containers may mount the same secret at different paths."""
    own = environ_of(facts.container).get(SECRET_FILE) or None
    required = environ_of(facts.sidecar).get("IRSA_SIDECAR_AUTHORIZATION_TOKEN_FILE") or None
    if own is None and required is not None:
        return failed(
            f"the sidecar requires a secret, but the container has no {SECRET_FILE}",
            f"Mount the secret's volume in this container, and set {SECRET_FILE} to the file",
        )
    if own is None or required is None or VALUE_NOT_SHOWN in {own, required}:
        return None
    mount, sidecars = mount_over(facts.container, own), mount_over(facts.sidecar, required)
    if mount is None or sidecars is None or mount.get("name") != sidecars.get("name"):
        return failed(
            f"{SECRET_FILE} is {own}, which is not in the volume of the sidecar's secret",
            "Mount the same volume in both containers",
        )
    return ok(f"{own}, of the volume {mount['name']}")


CONTAINER_CHECKS: tuple[Check[ContainerFacts], ...] = (
    Check("port", "does the address have the sidecar's port", _same_port),
    Check("secret", "with --pod, is the sidecar's secret mounted in the container", _same_secret),
)

_BY_VARIABLES = frozenset({"keys", "web_identity", "profile", "relative_uri", "region", "metadata", "no_proxy"})
"""Checks of the application's environment that need only the container's variables."""


def container_rows(facts: PodFacts) -> Iterator[Row]:
    """Yield the findings about each container that uses the endpoint."""
    sidecar = facts.sidecar
    variables = [check for check in environment.CHECKS if check.name in _BY_VARIABLES]
    address = [check for check in endpoint.CHECKS if check.name == "address"]
    for container in facts.applications if sidecar is not None else ():
        environ, name = environ_of(container), str(container.get("name"))
        if not environ.get(ADDRESS):
            continue
        yield from rows("environment", variables, EnvironmentFacts(environ), container=name)
        if environ[ADDRESS] != VALUE_NOT_SHOWN:
            facts_of_endpoint = EndpointFacts(environ[ADDRESS], ADDRESS, is_expected=True, now=0.0)
            yield from rows("endpoint", address, facts_of_endpoint, container=name)
        yield from rows("endpoint", CONTAINER_CHECKS, ContainerFacts(container, sidecar or {}), container=name)
