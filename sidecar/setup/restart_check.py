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
    """Return the attempts that are left, because all workloads wait for the same systems."""
    while not _gets(kubernetes, change, expected):
        attempts -= 1
        if attempts <= 0:
            raise SidecarError(
                f"A new Pod of {change.target} would get no {expected.name}, so nothing was restarted",
                fix=expected.fix,
            )
        show_progress(f"waiting until new Pods get the {expected.name}")
        time.sleep(PAUSE_SECONDS)
        show_progress("")
    return attempts


def _gets(kubernetes: "Kubernetes", change: Change, expected: _Expected) -> bool:
    """Return whether a Pod of the workload would get the source. A workload that does not exist has no Pods."""
    if kubernetes.get(change.target) is None:
        return True
    try:
        workload = kubernetes.patch(change.target, merge_patch(change.after), dry_run=True)
        with reading_objects(change.target):
            pod = pod_of(workload)
        collection = f"/api/v1/namespaces/{workload['metadata']['namespace']}/pods"
        created = kubernetes.create(collection, pod, dry_run=True)
    except KubernetesError as exc:
        raise _rejection(change, exc) from exc
    with reading_objects(collection):
        return expected.is_in(created["spec"])


def _rejection(change: Change, exc: KubernetesError) -> SidecarError:
    if _NO_DRY_RUN in str(exc.reason):
        fix = "Set its sideEffects to NoneOnDryRun, or move the workloads by hand (docs/migrate.md)"
        return SidecarError(f"A webhook of the cluster prevents the check of {change.target} ({exc.reason})", fix=fix)
    return SidecarError(f"A new Pod of {change.target} cannot be created: {exc.problem}", fix=exc.fix)


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
