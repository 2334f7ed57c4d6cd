"""
A Pod from outside, through the API server, with the rights of whoever's kubeconfig it is.

Reading the Pod is all that is needed. The daemon's own word needs pods/proxy, and a look inside pods/exec, which is
only taken with --exec: kubectl does it, so that it is seen and allowed as any other exec.
"""

import json
import shutil
import subprocess
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from sidecar.doctor.finding import Finding, Row, Status
from sidecar.doctor.pod import PodFacts, environ_of
from sidecar.doctor.report import SCHEMA_VERSION
from sidecar.errors import ConfigurationError, KubernetesError

if TYPE_CHECKING:
    from sidecar.setup.kubernetes import Kubernetes

ADMIN_PORT = 4773
EXEC_SECONDS = 60


def look(environ: Mapping[str, str], where: str, context: str | None) -> PodFacts:
    """`where` is NAME, or NAMESPACE/NAME. Raises ConfigurationError, and KubernetesError where it may not be read."""
    try:
        from sidecar.setup.kubeconfig import find_cluster  # noqa: PLC0415
        from sidecar.setup.kubernetes import open_cluster  # noqa: PLC0415
    except ImportError as exc:
        raise ConfigurationError(
            f"`irsa-sidecar doctor --pod` needs the package {exc.name}: pip install 'irsa-sidecar[setup]'"
        ) from exc
    config = find_cluster(environ, context)
    with open_cluster(config) as kubernetes:
        namespace, _, name = where.rpartition("/")
        return _look(kubernetes, namespace or kubernetes.namespace or "default", name)


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
    except ValueError as exc:
        said = done.stderr.decode("utf-8", "replace").strip().split("\n")[0][:300]
        raise KubernetesError(f"kubectl exec failed: {said or 'no doctor in that image'}") from exc
    if document.get("version") != SCHEMA_VERSION:
        raise KubernetesError(f"the sidecar's doctor speaks version {document.get('version')} of its document")
    return tuple(_row(check) for check in document["checks"])


def _row(check: Mapping[str, Any]) -> Row:
    finding = Finding(Status(check["status"]), str(check["seen"]), str(check.get("next_step") or ""))
    return Row(str(check["group"]), str(check["check"]), finding, check.get("role"), check.get("container"))
