"""
Check that Pods would get their new source of credentials, before a migration restarts them.

The API server creates a Pod of each workload as a dry run, so that every webhook and policy changes the Pod as after a
restart. EKS and the webhooks read new associations and annotations after some seconds, so the check is repeated.

Rule: a dry run stores nothing, and starts no Pod.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from sidecar.console import show_progress
from sidecar.errors import KubernetesError, SidecarError
from sidecar.kubernetes.document import reading_objects
from sidecar.kubernetes.names import path_segment
from sidecar.setup.migration import Change, Kind, Source, merge_patch
from sidecar.setup.migration_facts import has_pod_identity, has_sidecar

if TYPE_CHECKING:
    from sidecar.kubernetes.client import Kubernetes

ATTEMPTS, PAUSE_SECONDS = 20, 3.0
"""
Attempts to see the new source in a Pod, and the pause between them: a minute together.

EKS describes the delay of an association as several seconds (EKS User Guide, EKS Pod Identity considerations).
"""

_NO_DRY_RUN = "does not support dry run"
"""Text in the API server's error if a webhook of the cluster has side effects (API server, admission webhooks)."""

_NO_RIGHT = "cannot create resource"
"""Text in the API server's error if the user may not create Pods (API server, RBAC)."""

_FINAL = (None, 401, 404)
"""The statuses of errors that are not about the Pod. None means that the API server was not reached."""


class _Expected(NamedTuple):
    """The mark of a source in a Pod, and its name and next step in an error."""

    is_in: Callable[[Mapping[str, Any]], bool]
    name: str
    fix: str


_EXPECTED = {
    Source.SIDECAR: _Expected(
        has_sidecar,
        "sidecar",
        "Check the selectors of the webhook or the policies, the labels of the namespace, and the webhook's log. Then "
        "run this again",
    ),
    Source.POD_IDENTITY: _Expected(
        has_pod_identity,
        "token of EKS Pod Identity",
        "EKS may need more time: run this again later. If nothing changes, check that --cluster is the cluster of the "
        "Pods",
    ),
}
"""The sources that something adds to a Pod when it is created. The other sources need no check."""


def check_restarts(kubernetes: "Kubernetes", changes: Iterable[Change], source: Source) -> None:
    """
    Wait until a Pod of each workload in the changes would get the source. Each change restarts one workload.

    Raises SidecarError if a Pod does not get the source in time, or if the API server rejects a Pod.
    """
    expected = _EXPECTED.get(source)
    if expected is None:
        return
    attempts = ATTEMPTS
    for change in changes:
        if change.kind is Kind.TEMPLATE:
            attempts = _wait(kubernetes, change, expected, attempts)


def _wait(kubernetes: "Kubernetes", change: Change, expected: _Expected, attempts: int) -> int:
    """
    Wait until a Pod of the workload would get the source. Return the attempts that are left.

    All workloads share their attempts, because they wait for the same systems.
    """
    while (problem := _problem(kubernetes, change, expected)) is not None:
        attempts -= 1
        if attempts <= 0:
            raise problem
        show_progress(f"waiting until new Pods get the {expected.name}")
        time.sleep(PAUSE_SECONDS)
        show_progress("")
    return attempts


def _problem(kubernetes: "Kubernetes", change: Change, expected: _Expected) -> SidecarError | None:
    """
    Return the reason why a Pod of the workload would not get the source yet, or None.

    A workload that does not exist has no Pods. A rejection counts as a reason, because policies reject a Pod until they
    know the new annotation of its ServiceAccount.

    Raises SidecarError for a reason that does not change with time.
    """
    if kubernetes.get(change.target) is None:
        return None
    workload = kubernetes.patch(change.target, merge_patch(change.after), dry_run=True)
    with reading_objects(change.target):
        pod, namespace = pod_of(workload), path_segment(workload["metadata"]["namespace"])
    collection = f"/api/v1/namespaces/{namespace}/pods"
    try:
        created = kubernetes.create(collection, pod, dry_run=True)
    except KubernetesError as exc:
        if exc.status in _FINAL or any(text in exc.reason for text in (_NO_RIGHT, _NO_DRY_RUN)):
            raise _rejection(change, exc) from exc
        return _rejection(change, exc)
    with reading_objects(collection):
        if expected.is_in(created["spec"]):
            return None
    return SidecarError(
        f"A new Pod of {change.target} would get no {expected.name}, so nothing was restarted", fix=expected.fix
    )


def _rejection(change: Change, exc: KubernetesError) -> SidecarError:
    if _NO_DRY_RUN in exc.reason:
        fix = "Set its sideEffects to NoneOnDryRun, or move the workloads by hand (docs/migrate.md)"
        return SidecarError(f"A webhook of the cluster prevents the check of {change.target} ({exc.reason})", fix=fix)
    fix = exc.fix if _NO_RIGHT in exc.reason or not exc.reason else "Correct the reason, then run this again"
    return SidecarError(
        f"A new Pod of {change.target} cannot be created, so nothing was restarted: {exc.problem}", fix=fix
    )


def pod_of(workload: Mapping[str, Any]) -> dict[str, Any]:
    """Return a Pod of the workload. The controller of a StatefulSet adds a volume for each claim template."""
    spec = workload["spec"]
    template = (spec["jobTemplate"]["spec"] if "jobTemplate" in spec else spec)["template"]
    metadata = template.get("metadata") or {}
    claims = [each["metadata"]["name"] for each in spec.get("volumeClaimTemplates") or ()]
    volumes = [{"name": name, "persistentVolumeClaim": {"claimName": name}} for name in claims]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "generateName": "irsa-sidecar-check-",
            "labels": metadata.get("labels") or {},
            "annotations": metadata.get("annotations") or {},
        },
        "spec": {**template["spec"], "volumes": [*(template["spec"].get("volumes") or ()), *volumes]},
    }
