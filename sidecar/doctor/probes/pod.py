"""
A Pod from outside, through the API server, with the rights of whoever's kubeconfig it is.

Reading the Pod is all that is needed. The daemon's own word needs pods/proxy, and a look inside pods/exec, which is
only taken with --exec: kubectl does it, so that it is seen and allowed as any other exec.
"""

import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from sidecar.doctor.checks.pod import PodFacts, environ_of
from sidecar.doctor.finding import Finding, Row, Status
from sidecar.doctor.report import SCHEMA_VERSION
from sidecar.errors import ConfigurationError, KubernetesError

if TYPE_CHECKING:
    from sidecar.kubernetes.client import Kubernetes

ADMIN_PORT = 4773
EXEC_SECONDS = 60


def look(environ: Mapping[str, str], where: str, context: str | None) -> PodFacts:
    """
    Read the Pod that `where` names, NAME or NAMESPACE/NAME.

    Raises ConfigurationError if `where` is not such a name, and KubernetesError if the Pod cannot be read.
    """
    namespace, name = parse_pod_name(where)
    from sidecar.kubernetes.open_cluster import open_named_cluster  # noqa: PLC0415  for --pod only

    with open_named_cluster(environ, context, "irsa-sidecar doctor --pod") as kubernetes:
        return _look(kubernetes, namespace or kubernetes.namespace or "default", name)


_LABEL = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
_POD_NAME = re.compile(rf"(?:(?P<namespace>{_LABEL})/)?(?P<name>{_LABEL}(?:\.{_LABEL})*)")
"""Names of namespaces and Pods (Kubernetes documentation, Object Names and IDs: RFC 1123 label and subdomain)."""


def parse_pod_name(where: str) -> tuple[str | None, str]:
    """Return namespace, None if it is not named, and name. Raises ConfigurationError."""
    match = _POD_NAME.fullmatch(where)
    if match is None or len(match["name"]) > 253:
        raise ConfigurationError(f"--pod is {where!r}, which does not name a Pod: give NAME or NAMESPACE/NAME.")
    return match["namespace"], match["name"]


def _look(kubernetes: "Kubernetes", namespace: str, name: str) -> PodFacts:
    pods = f"/api/v1/namespaces/{quote(namespace, safe='')}/pods/{quote(name, safe='')}"
    facts = PodFacts(name, namespace, kubernetes.context or "", kubernetes.get(pods))
    if facts.pod is None or facts.sidecar is None:
        return facts
    readiness, unasked = _readiness(kubernetes, pods, _admin_port(facts))
    return facts._replace(events=_warnings(kubernetes, facts), readiness=readiness, unasked=unasked)


def _admin_port(facts: PodFacts) -> int:
    port = environ_of(facts.sidecar or {}).get("IRSA_SIDECAR_ADMIN_LISTEN", "").rpartition(":")[2]
    return int(port) if port.isdigit() else ADMIN_PORT


def _readiness(kubernetes: "Kubernetes", pod: str, port: int) -> tuple[str | None, str]:
    """What /readyz says: "" for ready, else why not; None where the way there is shut, and then why."""
    try:
        body = kubernetes.get_raw(f"{pod}:{port}/proxy/readyz")
    except KubernetesError as error:
        said = str(error).partition("): ")[2].strip()
        if error.status == 503 and "error trying to reach service" not in said:
            return said or "it does not say why", ""
        return None, said or str(error)
    return (None, "the admin address does not answer") if body is None else ("", "")


def _warnings(kubernetes: "Kubernetes", facts: PodFacts) -> tuple[str, ...]:
    """Of the Pod's events. Who may not read them goes without."""
    selector = quote(f"involvedObject.name={facts.name},type=Warning")
    try:
        found = kubernetes.get(f"/api/v1/namespaces/{facts.namespace}/events?fieldSelector={selector}") or {}
    except KubernetesError:
        return ()
    events = [item for item in found.get("items", []) if item.get("type") == "Warning"]
    events.sort(key=lambda item: str(item.get("lastTimestamp") or item.get("eventTime")), reverse=True)
    return tuple(f"{item.get('reason')}: {' '.join(str(item.get('message')).split())[:300]}" for item in events)


def look_inside(facts: PodFacts, context: str | None) -> tuple[Row, ...]:
    """What doctor finds in the sidecar's container. Raises KubernetesError where kubectl cannot run it there."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        raise KubernetesError("kubectl is not in PATH: --exec needs it")
    named = ["--context", context] if context else []
    container = str((facts.sidecar or {}).get("name"))
    inside = ["exec", "-n", facts.namespace, facts.name, "-c", container, "--", "irsa-sidecar", "doctor", "--json"]
    try:
        done = subprocess.run(  # noqa: S603  a list, no shell
            [kubectl, *named, *inside], capture_output=True, timeout=EXEC_SECONDS, check=False, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired as exc:
        raise KubernetesError(f"kubectl exec gave no answer within {EXEC_SECONDS} s") from exc
    try:
        document = json.loads(done.stdout)
    except (ValueError, RecursionError) as exc:
        said = done.stderr.decode("utf-8", "replace").strip().split("\n")[0][:300]
        raise KubernetesError(f"kubectl exec failed: {said or 'no doctor in that image'}") from exc
    version = document.get("version") if isinstance(document, dict) else None
    if version != SCHEMA_VERSION:
        raise KubernetesError(f"the sidecar's doctor prints version {version} of its document, not {SCHEMA_VERSION}")
    try:
        return tuple(_row(check) for check in document["checks"])
    except (KeyError, TypeError, ValueError) as exc:
        raise KubernetesError("the sidecar's doctor printed a document that cannot be read") from exc


def _row(check: Mapping[str, Any]) -> Row:
    finding = Finding(Status(check["status"]), str(check["observed"]), str(check.get("next_step") or ""))
    return Row(str(check["group"]), str(check["check"]), finding, check.get("role"), check.get("container"))
