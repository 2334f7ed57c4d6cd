"""
A Pod as the API shows it: whether a sidecar is in it, fed and alone with the token, and what its applications are told.

Rule: only what stands in the Pod's own document is judged. What is inside, as the token and the answers of STS, is seen
from inside alone.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sidecar.doctor.checks.environment import ELSEWHERE
from sidecar.doctor.finding import Check, Finding, left_out, ok, warning, wrong
from sidecar.injection.known_names import misnamed_label
from sidecar.injection.names import INJECT_FALSE, INJECT_LABEL, INJECT_TRUE
from sidecar.injection.pod_termination import outlives_its_credentials, served_while_terminating_seconds
from sidecar.injection.shared_processes import readers, user_of

Document = Mapping[str, Any]

SIDECAR = "irsa-sidecar"
"""The name that injection gives the container, and its images have in theirs."""

USER = 65532
"""The user of the image."""

AMAZONS_VOLUME = "aws-iam-token"
"""Which the EKS webhook adds to every container."""

DEFAULT_ADDRESS = "127.0.0.1:4772"

ADDRESS = "AWS_CONTAINER_CREDENTIALS_FULL_URI"
SECRET_FILE = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"  # noqa: S105  a name
TOKEN_FILE = "AWS_WEB_IDENTITY_TOKEN_FILE"  # noqa: S105


class PodFacts(NamedTuple):
    """
    `pod` is None where there is none. `events` are the messages of its warnings, newest first.

    `readiness` is what the daemon says of itself through the API server: "" for ready, None where that is not known,
    and then `unasked` says why.
    """

    name: str
    namespace: str
    context: str
    pod: Document | None
    events: tuple[str, ...] = ()
    readiness: str | None = None
    unasked: str = ""

    @property
    def spec(self) -> Document:
        return _mapping(_mapping(self.pod).get("spec"))

    @property
    def containers(self) -> list[Document]:
        """All that run for as long as the Pod: the native sidecars among the init containers, and the others."""
        native = [item for item in _list(self.spec, "initContainers") if item.get("restartPolicy") == "Always"]
        return [*native, *_list(self.spec, "containers")]

    @property
    def sidecar(self) -> Document | None:
        return next(iter(self.sidecars), None)

    @property
    def sidecars(self) -> list[Document]:
        """By their name; by their image only where that is nobody's: an application may be built on ours."""
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


def _there(facts: PodFacts) -> Finding:
    if facts.pod is None:
        return wrong(
            f"there is no Pod {facts.name} in namespace {facts.namespace} of context {facts.context}",
            f"kubectl get pods -n {facts.namespace} lists those that there are",
        )
    status = _mapping(facts.pod.get("status"))
    account = facts.spec.get("serviceAccountName", "default")
    return ok(f"{facts.namespace}/{facts.name}, {status.get('phase', 'unknown')}, service account {account}")


def _injected(facts: PodFacts) -> Finding:
    sidecar = facts.sidecar
    if sidecar is not None:
        is_native = sidecar.get("restartPolicy") == "Always"
        return ok(f"container {sidecar['name']}, {'a native sidecar' if is_native else 'beside the application'}")
    labels = _mapping(_mapping(_mapping(facts.pod).get("metadata")).get("labels"))
    value = labels.get(INJECT_LABEL, INJECT_FALSE)
    if value not in (INJECT_TRUE, INJECT_FALSE):
        return wrong(
            f"the Pod's label {INJECT_LABEL} is {value!r}, and there is no sidecar",
            f'Label its template {INJECT_LABEL}: "true"',
        )
    if value == INJECT_TRUE:
        return wrong(
            f"the Pod has the label {INJECT_LABEL}, and no sidecar: the webhook has not seen it",
            "See whether the webhook runs (kubectl get pods -n irsa-sidecar), and make the Pod anew: it sees Pods only "
            "as they are made",
        )
    if misnamed := misnamed_label(labels):
        return wrong(
            f"there is no irsa-sidecar in this Pod, whose label {misnamed.name} is not read",
            f'Label its template {misnamed.meant}: "true"',
        )
    return wrong(
        "there is no irsa-sidecar in this Pod",
        f'Label its template {INJECT_LABEL}: "true", or write the sidecar into its manifest',
    )


def _runs(facts: PodFacts) -> Finding:
    name = str(_sidecar(facts)["name"])
    status = facts.status_of(name)
    state = _mapping(status.get("state"))
    last = _mapping(_mapping(status.get("lastState")).get("terminated"))
    told = _ended(last) or _ended(_mapping(state.get("terminated")))
    if "running" in state:
        restarts = status.get("restartCount", 0)
        if restarts:
            return warning(f"it runs, after {restarts} restart(s){told}", _logs(facts, name, "--previous"))
        return ok("it runs")
    reason = _mapping(state.get("waiting")).get("reason") or _mapping(state.get("terminated")).get("reason")
    events = f"; {facts.events[0]}" if facts.events else ""
    return wrong(f"it does not run: {reason or 'not started yet'}{told}{events}", _logs(facts, name))


def _ended(terminated: Document) -> str:
    if not terminated:
        return ""
    message = " ".join(str(terminated.get("message") or "").split())[:500]
    return f"; it ended with {terminated.get('exitCode')}{f': {message}' if message else ''}"


def _logs(facts: PodFacts, name: str, *more: str) -> str:
    return " ".join(["kubectl logs", "-n", facts.namespace, facts.name, "-c", name, *more])


def _ready(facts: PodFacts) -> Finding:
    if facts.readiness is None:
        return left_out(f"the daemon's readiness could not be read: {facts.unasked}", command_inside(facts))
    if facts.readiness:
        return wrong(f"the daemon is not ready: {facts.readiness}", command_inside(facts))
    return ok("the daemon says that it has credentials")


def command_inside(facts: PodFacts) -> str:
    """What a person runs to see the rest."""
    name = _sidecar(facts)["name"]
    return f"kubectl exec -n {facts.namespace} {facts.name} -c {name} -- irsa-sidecar doctor"


def _fed(facts: PodFacts) -> Finding:
    """The token's volume, its mount and its path belong together."""
    path = environ_of(_sidecar(facts)).get(TOKEN_FILE)
    if not path or path == ELSEWHERE:
        return left_out("AWS_WEB_IDENTITY_TOKEN_FILE does not stand in the Pod's document")
    mount = mount_over(_sidecar(facts), path)
    if mount is None:
        return wrong(
            f"nothing is mounted at {path}, where AWS_WEB_IDENTITY_TOKEN_FILE says that the token is",
            "Mount the projected volume in the sidecar's container",
        )
    if mount.get("subPath") or mount.get("subPathExpr"):
        return wrong(
            f"the token's volume is mounted by subPath at {mount['mountPath']}: it is never renewed",
            "Mount the whole volume at a directory, without subPath",
        )
    return _projected(facts, path, str(mount.get("name")))


def _token_source(facts: PodFacts, path: str, volume: str) -> Document | None:
    """Return the `serviceAccountToken` source of the volume that provides the file at `path`."""
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
        return wrong(
            f"volume {volume} has no service account token at {path}",
            "Project one: serviceAccountToken with audience sts.amazonaws.com and the path's last part",
        )
    audience = found.get("audience")
    if not audience:
        return wrong(
            f"volume {volume} asks for a token without an audience: it is then the API server's own",
            "Set audience: sts.amazonaws.com",
        )
    seconds = found.get("expirationSeconds", 3600)
    if not str(audience).startswith("sts.amazonaws.com"):
        return warning(f"volume {volume} asks for audience {audience}", "See that the IAM OIDC provider accepts it")
    return ok(f"{path}, for {audience}, renewed within {seconds} s")


DEFAULT_GRACE_SECONDS, DEFAULT_TOKEN_SECONDS, DEFAULT_SESSION_SECONDS = 30, 3600, 3600
"""Defaults of Kubernetes for the Pod and the volume, and the daemon's for the session."""


def _terminating(facts: PodFacts) -> Finding | None:
    """The kubelet renews no token of a terminating Pod (kubernetes issue 116481)."""
    grace = _seconds(facts.spec.get("terminationGracePeriodSeconds"), DEFAULT_GRACE_SECONDS)
    environ = environ_of(_sidecar(facts))
    path = environ.get(TOKEN_FILE, "")
    mount = mount_over(_sidecar(facts), path) or {}
    source = _token_source(facts, path, str(mount.get("name")))
    if source is None:
        return None
    token = _seconds(source.get("expirationSeconds"), DEFAULT_TOKEN_SECONDS)
    session = _seconds(environ.get("IRSA_SIDECAR_DURATION"), DEFAULT_SESSION_SECONDS)
    if not outlives_its_credentials(grace, token, session):
        return ok(f"terminationGracePeriodSeconds is {grace}")
    return warning(
        f"terminationGracePeriodSeconds is {grace}, and the kubelet renews no token of a Pod that terminates: "
        f"credentials may expire after {served_while_terminating_seconds(token, session):.0f} s of that period",
        "Raise expirationSeconds of the token's volume, or IRSA_SIDECAR_DURATION, or end the Pod sooner",
    )


def _seconds(value: Any, default: int) -> int:
    """A whole number of seconds, also as text; the default for anything else, such as the duration `max`."""
    text = str(value)
    return int(text) if text.isascii() and text.isdigit() and len(text) < 12 else default


def _alone(facts: PodFacts) -> Finding:
    """Whether the application could trade the token itself."""
    path = environ_of(_sidecar(facts)).get(TOKEN_FILE, "")
    mount = mount_over(_sidecar(facts), path) or {}
    volumes = {mount.get("name"), AMAZONS_VOLUME}
    others = [
        str(item["name"])
        for item in facts.applications
        if any(found.get("name") in volumes for found in _list(item, "volumeMounts"))
    ]
    if others:
        return warning(
            f"container {', '.join(others)} has the token mounted too, and could trade it for the role by itself",
            "Mount the token's volume in the sidecar only; keep EKS's webhook off with the annotation "
            "eks.amazonaws.com/skip-containers",
        )
    return _readable_by_user(facts) or ok("no other container has it mounted")


def _readable_by_user(facts: PodFacts) -> Finding | None:
    """Judge a shared process namespace by the rule of injection's warning."""
    own = user_of(facts.spec, _sidecar(facts))
    user = USER if own is None else own
    beside = [*_list(facts.spec, "initContainers"), *_list(facts.spec, "containers")]
    found = readers(facts.spec, [item for item in beside if item not in facts.sidecars], user)
    if not found:
        return None
    others = "; ".join(f"{reader.name} {reader.clause(user)}" for reader in found)
    return warning(
        f"shareProcessNamespace is true, and containers can read the sidecar's token through /proc: {others}",
        "Give each of these containers another runAsUser, or remove shareProcessNamespace",
    )


def _network(facts: PodFacts) -> Finding | None:
    if not facts.spec.get("hostNetwork"):
        return None
    return warning(
        "hostNetwork is true: 127.0.0.1 is the node's, shared with all that runs there",
        "Leave it out, or see that the ports are free on every node and a secret is asked for",
    )


def _told(facts: PodFacts) -> Finding:
    told = [str(item["name"]) for item in facts.applications if environ_of(item).get(ADDRESS)]
    if not told:
        return wrong(
            f"no container has {ADDRESS}: no SDK comes to the sidecar",
            f"Set {ADDRESS} to http://{DEFAULT_ADDRESS}/v1/credentials in the application's container",
        )
    return ok(f"{', '.join(told)} come to the sidecar")


CHECKS: tuple[Check[PodFacts], ...] = (
    Check("pod", "does the Pod exist", _there),
    Check("sidecar", "is a sidecar in it", _injected, after=("pod",)),
    Check("running", "does it run", _runs, after=("sidecar",)),
    Check("readiness", "does it report credentials", _ready, after=("running",)),
    Check("volume", "does it get a renewed token for the right audience", _fed, after=("sidecar",)),
    Check("termination", "do credentials last while the Pod terminates", _terminating, after=("sidecar",)),
    Check("isolation", "is the token kept from the other containers", _alone, after=("sidecar",)),
    Check("network", "is loopback the Pod's own", _network, after=("pod",)),
    Check("applications", "does any container have the endpoint's address", _told, after=("sidecar",)),
)


def environ_of(container: Document) -> dict[str, str]:
    """Its variables, as far as they stand in the Pod's document."""
    return {
        str(item.get("name")): ELSEWHERE if item.get("valueFrom") is not None else str(item.get("value") or "")
        for item in _list(container, "env")
    }


def _has_our_image(container: Document) -> bool:
    image = str(container.get("image", "")).rpartition("/")[2]
    return image.partition(":")[0].partition("@")[0] == SIDECAR


def _sidecar(facts: PodFacts) -> Document:
    assert facts.sidecar is not None, "the checks after `sidecar` have one"
    return facts.sidecar


def mount_over(container: Document, path: str) -> Document | None:
    """The innermost mount that `path` is in."""
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
