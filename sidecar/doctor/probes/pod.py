"""
Read a Pod through the API server, with the permissions of the user's kubeconfig.

The permission to read the Pod is sufficient. The daemon's readiness also requires pods/proxy. doctor inside the Pod
requires pods/exec, and runs only with --exec. kubectl runs it, so the cluster authorizes and audits it like any other
exec.
"""

import json
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from sidecar.doctor.admin_address import AdminAddress, admin_address
from sidecar.doctor.checks.injector import INJECTORS
from sidecar.doctor.checks.pod import SIDECAR, PodFacts
from sidecar.doctor.finding import Finding, Row, Status
from sidecar.doctor.report import SCHEMA_VERSION
from sidecar.errors import ConfigurationError, KubernetesError
from sidecar.kubernetes.names import path_segment

if TYPE_CHECKING:
    from sidecar.kubernetes.client import Kubernetes

EXEC_SECONDS = 60


class Inside(NamedTuple):
    """The findings of doctor inside the Pod, and the lifetime of each token in seconds, by its file."""

    rows: tuple[Row, ...] = ()
    token_lifetimes: Mapping[str, float] = MappingProxyType({})


def collect(environ: Mapping[str, str], pod_name: str, context: str | None) -> PodFacts:
    """
    Read the Pod `pod_name`, which is NAME or NAMESPACE/NAME. If it does not exist, `pod` is None in the result.

    Raises ConfigurationError if `pod_name` is invalid, and KubernetesError if the Pod cannot be read.
    """
    namespace, name = parse_pod_name(pod_name)
    from sidecar.kubernetes.open_cluster import open_named_cluster  # noqa: PLC0415  for --pod only

    with open_named_cluster(environ, context, "irsa-sidecar doctor --pod") as kubernetes:
        return _collect(kubernetes, namespace or kubernetes.namespace or "default", name)


_LABEL = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
_POD_NAME = re.compile(rf"(?:(?P<namespace>{_LABEL})/)?(?P<name>{_LABEL}(?:\.{_LABEL})*)")
"""
Pattern for a Pod's name, with or without a namespace (Kubernetes, Object Names and IDs: RFC 1123 label and subdomain).
"""


def parse_pod_name(text: str) -> tuple[str | None, str]:
    """
    Return the namespace or None, and the name.

    Raises ConfigurationError if the text has neither form.
    """
    match = _POD_NAME.fullmatch(text)
    if match is None or len(match["name"]) > 253:
        raise ConfigurationError(
            f"--pod is {text!r}, which does not name a Pod",
            fix="Use NAME or NAMESPACE/NAME",
            setting="--pod",
        )
    return match["namespace"], match["name"]


def parse_namespace(setting: str, text: str) -> str:
    """
    Return the namespace.

    Raises ConfigurationError if the text is not the name of a namespace.
    """
    if not re.fullmatch(_LABEL, text):
        raise ConfigurationError(
            f"{setting} is {text[:100]!r}, which does not name a namespace",
            fix="Use lower-case letters, digits and hyphens",
            setting=setting,
        )
    return text


def _collect(kubernetes: "Kubernetes", namespace: str, name: str) -> PodFacts:
    pods = f"/api/v1/namespaces/{path_segment(namespace)}/pods/{path_segment(name)}"
    facts = PodFacts(name, namespace, kubernetes.context or "", kubernetes.get(pods))
    if facts.pod is None:
        return facts
    if facts.sidecar is None:
        return facts._replace(injectors=_injectors(kubernetes))
    readiness, reason = _readiness(kubernetes, pods, admin_address(facts.sidecar))
    return facts._replace(events=_warnings(kubernetes, facts), readiness=readiness, unknown_readiness=reason)


def _injectors(kubernetes: "Kubernetes") -> tuple[str, ...] | None:
    """Return the values of INJECTORS whose objects exist in the cluster, or None if the user may not read them."""
    path = "/apis/admissionregistration.k8s.io/v1/{}/" + SIDECAR
    try:
        return tuple(name for kind, name in INJECTORS.items() if kubernetes.get(path.format(kind)) is not None)
    except KubernetesError:
        return None


def _readiness(kubernetes: "Kubernetes", pod: str, admin: AdminAddress) -> tuple[str | None, str]:
    """
    Return "" if /readyz reports that the daemon is ready, otherwise the message from /readyz.

    Return None and the reason if /readyz is not reachable.
    """
    if admin.address is None:
        return None, admin.problem
    try:
        body = kubernetes.get_raw(f"{pod}:{admin.address[1]}/proxy/readyz")
    except KubernetesError as error:
        reason = error.reason.strip()
        if error.status == 503 and "error trying to reach service" not in reason:
            return reason or "no reason given", ""
        return None, reason or error.problem
    return (None, "the admin address does not respond") if body is None else ("", "")


def _warnings(kubernetes: "Kubernetes", facts: PodFacts) -> tuple[str, ...]:
    """Return the messages of the Pod's Warning events, newest first, or none if the user may not read events."""
    selector = quote(f"involvedObject.name={facts.name},type=Warning")
    try:
        found = kubernetes.get(f"/api/v1/namespaces/{facts.namespace}/events?fieldSelector={selector}") or {}
    except KubernetesError:
        return ()
    events = [item for item in found.get("items", []) if item.get("type") == "Warning"]
    events.sort(key=lambda item: str(item.get("lastTimestamp") or item.get("eventTime")), reverse=True)
    return tuple(f"{item.get('reason')}: {' '.join(str(item.get('message')).split())[:300]}" for item in events)


def collect_inside(facts: PodFacts, context: str | None) -> Inside:
    """
    Return the results of doctor in the sidecar.

    Raises KubernetesError if kubectl cannot run doctor.
    """
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        raise KubernetesError("kubectl is not in PATH, and --exec needs it", fix="Install kubectl")
    context_option = ["--context", context] if context else []
    container = str((facts.sidecar or {}).get("name"))
    inside = ["exec", "-n", facts.namespace, facts.name, "-c", container, "--", "irsa-sidecar", "doctor", "--json"]
    return _read(_run([kubectl, *context_option, *inside]))


def _run(command: Sequence[str]) -> "subprocess.CompletedProcess[bytes]":
    try:
        return subprocess.run(  # noqa: S603  a list, no shell
            command,
            capture_output=True,
            timeout=EXEC_SECONDS,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired as exc:
        raise KubernetesError(f"kubectl exec did not respond within {EXEC_SECONDS} s") from exc


def _read(done: "subprocess.CompletedProcess[bytes]") -> Inside:
    """
    Return the results in the document that doctor printed.

    Raises KubernetesError if doctor printed no document, or a document that cannot be read.
    """
    try:
        document = json.loads(done.stdout)
    except (ValueError, RecursionError) as exc:
        error_line = done.stderr.decode("utf-8", "replace").strip().split("\n")[0][:300]
        raise KubernetesError(f"kubectl exec failed: {error_line or 'no doctor in that image'}") from exc
    version = document.get("version") if isinstance(document, dict) else None
    if version != SCHEMA_VERSION:
        raise KubernetesError(f"the sidecar's doctor prints version {version} of its document, not {SCHEMA_VERSION}")
    try:
        # An older doctor prints no lifetimes.
        lifetimes = {str(path): float(seconds) for path, seconds in document.get("token_lifetimes", {}).items()}
        return Inside(tuple(_row(check) for check in document["checks"]), lifetimes)
    except (AttributeError, KeyError, TypeError, ValueError) as exc:
        raise KubernetesError("the sidecar's doctor printed a document that cannot be read") from exc


def _row(check: Mapping[str, Any]) -> Row:
    finding = Finding(Status(check["status"]), str(check["observed"]), str(check.get("next_step") or ""))
    return Row(str(check["group"]), str(check["check"]), finding, check.get("role"), check.get("container"))
