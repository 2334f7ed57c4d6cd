"""
Check a Pod from outside: the sidecar, its token, its isolation, and the applications' settings. Pure.

Rule: these checks use only what the API server returns, such as the Pod's document, its events and the response of
/readyz. The exception is the lifetime of the tokens, which doctor reads inside the Pod if --exec is set. Everything
else about the token and STS is checked only from inside.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from sidecar.doctor.checks.environment import VALUE_NOT_SHOWN
from sidecar.doctor.checks.injector import not_injected
from sidecar.doctor.checks.token import duration_text
from sidecar.doctor.finding import Check, Finding, failed, ok, skipped, warning
from sidecar.injection.known_names import misnamed_label
from sidecar.injection.names import INJECT_FALSE, INJECT_LABEL, INJECT_TRUE
from sidecar.injection.pod_termination import outlives_its_credentials, served_while_terminating_seconds
from sidecar.injection.shared_processes import readers, user_of

Document = Mapping[str, Any]

SIDECAR = "irsa-sidecar"
"""Name of the injected container, and last part of the image's name."""

USER = 65532
"""User id that the image's process runs as."""

EKS_TOKEN_VOLUME = "aws-iam-token"  # noqa: S105  a name
"""Name of the volume that Amazon's webhook mounts in every container."""

DEFAULT_ADDRESS = "127.0.0.1:4772"

ADDRESS = "AWS_CONTAINER_CREDENTIALS_FULL_URI"
SECRET_FILE = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"  # noqa: S105  a name
TOKEN_FILE = "AWS_WEB_IDENTITY_TOKEN_FILE"  # noqa: S105


class PodFacts(NamedTuple):
    """
    A Pod's document and state. `pod` is None if the Pod does not exist.

    `events` are the messages of the Pod's Warning events, newest first. `readiness` is the response from the daemon's
    /readyz, read through the API server. It is "" if the daemon is ready, and None if it is not known.
    `unknown_readiness` is then the reason. `token_lifetimes` are the seconds from issue to expiration by the token's
    file, and only doctor inside the Pod can read them. `injectors` are the values of INJECTORS whose objects exist in
    the cluster, or None if they are not known.
    """

    name: str
    namespace: str
    context: str
    pod: Document | None
    events: tuple[str, ...] = ()
    readiness: str | None = None
    unknown_readiness: str = ""
    token_lifetimes: Mapping[str, float] = MappingProxyType({})
    injectors: tuple[str, ...] | None = None

    @property
    def spec(self) -> Document:
        return _mapping(_mapping(self.pod).get("spec"))

    @property
    def containers(self) -> list[Document]:
        """The containers that run as long as the Pod, including native sidecars, which are init containers."""
        native = [item for item in _list(self.spec, "initContainers") if item.get("restartPolicy") == "Always"]
        return [*native, *_list(self.spec, "containers")]

    @property
    def sidecar(self) -> Document | None:
        return next(iter(self.sidecars), None)

    @property
    def sidecars(self) -> list[Document]:
        """The containers with the sidecar's name or, if there are none, with its image. Applications may use it too."""
        named = [item for item in self.containers if item.get("name") == SIDECAR]
        return named or [item for item in self.containers if _has_our_image(item)]

    @property
    def applications(self) -> list[Document]:
        sidecars = self.sidecars
        return [item for item in _list(self.spec, "containers") if item not in sidecars]

    def status_of(self, container: str) -> Document:
        status = _mapping(_mapping(self.pod).get("status"))
        found = [*_list(status, "initContainerStatuses"), *_list(status, "containerStatuses")]
        return next((item for item in found if item.get("name") == container), {})


def _pod(facts: PodFacts) -> Finding:
    if facts.pod is None:
        return failed(
            f"Pod {facts.name} does not exist in namespace {facts.namespace} of context {facts.context}",
            f"List the Pods: kubectl get pods -n {facts.namespace}",
        )
    status = _mapping(facts.pod.get("status"))
    service_account = facts.spec.get("serviceAccountName", "default")
    return ok(f"{facts.namespace}/{facts.name}, {status.get('phase', 'unknown')}, service account {service_account}")


def _has_sidecar(facts: PodFacts) -> Finding:
    sidecar = facts.sidecar
    if sidecar is not None:
        is_native = sidecar.get("restartPolicy") == "Always"
        return ok(f"container {sidecar['name']}, {'a native sidecar' if is_native else 'an ordinary container'}")
    return _without_sidecar(_mapping(_mapping(_mapping(facts.pod).get("metadata")).get("labels")), facts.injectors)


def _without_sidecar(labels: Document, injectors: Sequence[str] | None) -> Finding:
    value = labels.get(INJECT_LABEL, INJECT_FALSE)
    if value not in (INJECT_TRUE, INJECT_FALSE):
        return failed(
            f"the Pod's label {INJECT_LABEL} is {value!r}, and the Pod has no sidecar",
            f'Set the label {INJECT_LABEL}: "true" in the Pod template',
        )
    if value == INJECT_TRUE:
        return not_injected(injectors)
    if misnamed := misnamed_label(labels):
        return failed(
            f"the Pod has no irsa-sidecar, and its label {misnamed.name} is not read",
            f'Set the label {misnamed.meant}: "true" in the Pod template',
        )
    return failed(
        "the Pod has no irsa-sidecar",
        f'Set the label {INJECT_LABEL}: "true" in the Pod template, or add the sidecar to its manifest',
    )


def _running(facts: PodFacts) -> Finding:
    name = str(_sidecar(facts)["name"])
    status = facts.status_of(name)
    state = _mapping(status.get("state"))
    last = _mapping(_mapping(status.get("lastState")).get("terminated"))
    exit_text = _exit_text(last) or _exit_text(_mapping(state.get("terminated")))
    if "running" in state:
        restarts = status.get("restartCount", 0)
        if restarts:
            return warning(
                f"the sidecar runs, after {restarts} restart(s){exit_text}", _logs(facts, name, "--previous")
            )
        return ok("the sidecar runs")
    reason = _mapping(state.get("waiting")).get("reason") or _mapping(state.get("terminated")).get("reason")
    events = f"; {facts.events[0]}" if facts.events else ""
    return failed(f"the sidecar does not run: {reason or 'not started yet'}{exit_text}{events}", _logs(facts, name))


def _exit_text(terminated: Document) -> str:
    if not terminated:
        return ""
    message = " ".join(str(terminated.get("message") or "").split())[:500]
    return f"; it exited with {terminated.get('exitCode')}{f': {message}' if message else ''}"


def _logs(facts: PodFacts, name: str, *more: str) -> str:
    return " ".join(["kubectl logs", "-n", facts.namespace, facts.name, "-c", name, *more])


def _readiness(facts: PodFacts) -> Finding:
    if facts.readiness is None:
        return skipped(f"the daemon's readiness could not be read: {facts.unknown_readiness}", command_inside(facts))
    if facts.readiness:
        return failed(f"the daemon is not ready: {facts.readiness}", command_inside(facts))
    return ok("the daemon reports that it has credentials")


def command_inside(facts: PodFacts) -> str:
    """Return the command that runs doctor inside the Pod."""
    name = _sidecar(facts)["name"]
    return f"kubectl exec -n {facts.namespace} {facts.name} -c {name} -- irsa-sidecar doctor"


def _volume(facts: PodFacts) -> Finding:
    """Check whether the token's path is in a mounted volume that projects a token."""
    path = environ_of(_sidecar(facts)).get(TOKEN_FILE)
    if not path or path == VALUE_NOT_SHOWN:
        return skipped("the Pod's document does not show the value of AWS_WEB_IDENTITY_TOKEN_FILE")
    mount = mount_over(_sidecar(facts), path)
    if mount is None:
        return failed(
            f"AWS_WEB_IDENTITY_TOKEN_FILE is {path}: no volume is mounted there",
            "Mount the projected volume in the sidecar's container",
        )
    if mount.get("subPath") or mount.get("subPathExpr"):
        return failed(
            f"the token's volume is mounted by subPath at {mount['mountPath']}: it is never renewed",
            "Mount the whole volume at a directory, without subPath",
        )
    return _projected(facts, path, str(mount.get("name")))


def _token_source(facts: PodFacts, path: str, volume: str) -> Document | None:
    """Return the `serviceAccountToken` source of the volume that provides the file at `path`, or None."""
    sources = [
        _mapping(source.get("serviceAccountToken"))
        for item in _list(facts.spec, "volumes")
        if item.get("name") == volume
        for source in _list(_mapping(item.get("projected")), "sources")
        if "serviceAccountToken" in source
    ]
    return next((source for source in sources if path.endswith(f"/{source.get('path')}")), None)


def _projected(facts: PodFacts, path: str, volume: str) -> Finding:
    found = _token_source(facts, path, volume)
    if found is None:
        return failed(
            f"volume {volume} has no service account token at {path}",
            "Add a serviceAccountToken source whose audience is sts.amazonaws.com, and whose path is the last part of "
            "that path",
        )
    audience = found.get("audience")
    if not audience:
        return failed(
            f"volume {volume} requests a token without an audience: the token gets the audience of the API server",
            "Set audience: sts.amazonaws.com",
        )
    seconds = found.get("expirationSeconds", 3600)
    if not str(audience).startswith("sts.amazonaws.com"):
        return warning(f"volume {volume} requests audience {audience}", "Check that the IAM OIDC provider accepts it")
    return ok(f"{path}, for {audience}, renewed within {seconds} s")


DEFAULT_GRACE_SECONDS, DEFAULT_TOKEN_SECONDS, DEFAULT_SESSION_SECONDS = 30, 3600, 3600
"""Defaults in seconds: the grace period and the token lifetime of Kubernetes, and the daemon's session duration."""

ROUNDING_SECONDS = 60
"""The check ignores a difference of up to this time between the requested and the real lifetime of a token."""


class _TokenVolume(NamedTuple):
    """The token's file, the lifetime that its volume requests, and the token's real lifetime if it is known."""

    path: str
    requested_seconds: int
    real_seconds: float | None


def _token_volume(facts: PodFacts) -> _TokenVolume | None:
    path = environ_of(_sidecar(facts)).get(TOKEN_FILE, "")
    mount = mount_over(_sidecar(facts), path) or {}
    source = _token_source(facts, path, str(mount.get("name")))
    if source is None:
        return None
    requested = _seconds(source.get("expirationSeconds"), DEFAULT_TOKEN_SECONDS)
    return _TokenVolume(path, requested, facts.token_lifetimes.get(path))


def _lifetime(facts: PodFacts) -> Finding | None:
    """
    Check whether the token is valid for as long as its volume requests.

    The API server shortens tokens to its flag --service-account-max-token-expiration, or to the
    max_token_expiration_seconds of an external signer (KEP-740). Only the kubelet receives the API server's warning.
    """
    volume = _token_volume(facts)
    if volume is None or volume.real_seconds is None:
        return None
    real, requested = volume.real_seconds, volume.requested_seconds
    if real >= requested - ROUNDING_SECONDS:
        return ok(f"{volume.path} is valid for {duration_text(real)}")
    return warning(
        f"{volume.path} is valid for {duration_text(real)} and not for expirationSeconds {requested}: the API server "
        "or its external signer limits the lifetime of tokens",
        f"Set expirationSeconds to {real:.0f}, or raise the limit: --service-account-max-token-expiration of the API "
        "server, or the external signer's max_token_expiration_seconds",
    )


def _termination(facts: PodFacts) -> Finding | None:
    """
    Check whether credentials stay valid for the whole grace period.

    The kubelet does not renew the token of a terminating Pod (kubernetes issue 116481).
    """
    volume = _token_volume(facts)
    if volume is None:
        return None
    grace = _seconds(facts.spec.get("terminationGracePeriodSeconds"), DEFAULT_GRACE_SECONDS)
    token = volume.requested_seconds if volume.real_seconds is None else volume.real_seconds
    session = _seconds(environ_of(_sidecar(facts)).get("IRSA_SIDECAR_DURATION"), DEFAULT_SESSION_SECONDS)
    if not outlives_its_credentials(grace, token, session):
        return ok(f"terminationGracePeriodSeconds is {grace}")
    return warning(
        f"terminationGracePeriodSeconds is {grace}, and the kubelet does not renew the token of a terminating Pod: "
        f"credentials may expire after {served_while_terminating_seconds(token, session):.0f} s of that period",
        "Raise expirationSeconds of the token's volume or IRSA_SIDECAR_DURATION, or shorten the grace period",
    )


def _seconds(value: Any, default: int) -> int:
    """Return a whole number of seconds, from a number or a string, or the default for another value such as `max`."""
    text = str(value)
    return int(text) if text.isascii() and text.isdigit() and len(text) < 12 else default


def _isolation(facts: PodFacts) -> Finding:
    """Check whether an application could exchange the token itself."""
    path = environ_of(_sidecar(facts)).get(TOKEN_FILE, "")
    mount = mount_over(_sidecar(facts), path) or {}
    volumes = {mount.get("name"), EKS_TOKEN_VOLUME}
    others = [
        str(item["name"])
        for item in facts.applications
        if any(found.get("name") in volumes for found in _list(item, "volumeMounts"))
    ]
    if others:
        return warning(
            f"container {', '.join(others)} mounts the token too, and could exchange it for the role's credentials",
            "Mount the token's volume only in the sidecar. To exclude the other containers from Amazon's webhook, set "
            "the annotation eks.amazonaws.com/skip-containers",
        )
    return _readable_by_user(facts) or ok("no other container mounts the token")


def _readable_by_user(facts: PodFacts) -> Finding | None:
    """Check a shared process namespace with the same rule as the injection's warning."""
    own = user_of(facts.spec, _sidecar(facts))
    user = USER if own is None else own
    beside = [*_list(facts.spec, "initContainers"), *_list(facts.spec, "containers")]
    found = readers(facts.spec, [item for item in beside if item not in facts.sidecars], user)
    if not found:
        return None
    others = "; ".join(f"{reader.name} {reader.clause(user)}" for reader in found)
    return warning(
        f"shareProcessNamespace is true, and containers can read the sidecar's token through /proc: {others}",
        "Set another runAsUser in each of these containers, or remove shareProcessNamespace",
    )


def _network(facts: PodFacts) -> Finding | None:
    if not facts.spec.get("hostNetwork"):
        return None
    return warning(
        "hostNetwork is true: every process on the node shares 127.0.0.1",
        "Remove it, or make sure that the ports are free on every node and that the endpoint requires a secret",
    )


def _applications(facts: PodFacts) -> Finding:
    names = [str(item["name"]) for item in facts.applications if environ_of(item).get(ADDRESS)]
    if not names:
        return failed(
            f"no container has {ADDRESS}: no SDK calls the sidecar",
            f"Set {ADDRESS} to http://{DEFAULT_ADDRESS}/v1/credentials in the application's container",
        )
    return ok(f"SDKs call the sidecar in: {', '.join(names)}")


CHECKS: tuple[Check[PodFacts], ...] = (
    Check("pod", "does the Pod exist", _pod),
    Check("sidecar", "does the Pod have a sidecar", _has_sidecar, after=("pod",)),
    Check("running", "does the sidecar run", _running, after=("sidecar",)),
    Check("readiness", "does the daemon report credentials", _readiness, after=("running",)),
    Check("volume", "does the sidecar get a renewed token with the right audience", _volume, after=("sidecar",)),
    Check("lifetime", "is the token valid for as long as its volume requests", _lifetime, after=("sidecar",)),
    Check("termination", "do credentials stay valid while the Pod terminates", _termination, after=("sidecar",)),
    Check("isolation", "is the token hidden from the other containers", _isolation, after=("sidecar",)),
    Check("network", "does the Pod have its own loopback", _network, after=("pod",)),
    Check("applications", "is the endpoint's address set in any container", _applications, after=("sidecar",)),
)


def environ_of(container: Document) -> dict[str, str]:
    """Return the container's variables. A value that the document does not contain becomes `VALUE_NOT_SHOWN`."""
    return {
        str(item.get("name")): VALUE_NOT_SHOWN if item.get("valueFrom") is not None else str(item.get("value") or "")
        for item in _list(container, "env")
    }


def _has_our_image(container: Document) -> bool:
    image = str(container.get("image", "")).rpartition("/")[2]
    return image.partition(":")[0].partition("@")[0] == SIDECAR


def _sidecar(facts: PodFacts) -> Document:
    assert facts.sidecar is not None, "the checks after `sidecar` have a sidecar"
    return facts.sidecar


def mount_over(container: Document, path: str) -> Document | None:
    """Return the innermost mount that contains `path`, or None."""
    found = [
        mount
        for mount in _list(container, "volumeMounts")
        if path == mount.get("mountPath") or path.startswith(str(mount.get("mountPath")).rstrip("/") + "/")
    ]
    return max(found, key=lambda mount: len(str(mount.get("mountPath"))), default=None)


def _mapping(value: Any) -> Document:
    return value if isinstance(value, dict) else {}


def _list(document: Document, key: str) -> Sequence[Document]:
    value = document.get(key)
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
