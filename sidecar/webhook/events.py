"""
Events for what its author would not hear otherwise.

A refusal reaches whoever made the Pod: kubectl prints it, and a ReplicaSet or Job gets an Event of its controller's
(FailedCreate) with the same words. A warning reaches kubectl only; of a Pod that a controller makes, nobody would see
it, so it becomes an Event of the Pod's owner. Never for a dry run, never in the way of an answer, and each only now and
then: the sixth Pod of a Deployment has nothing new to say.
"""

from collections.abc import Callable
from typing import Any

import trio

from sidecar.clock import instant_text
from sidecar.errors import KubernetesError
from sidecar.injection.warning import reason_of
from sidecar.kubernetes.async_client import KubernetesApi
from sidecar.kubernetes.document import Document
from sidecar.log import Logger
from sidecar.webhook.metrics import WebhookMetrics
from sidecar.webhook.review import Review, ReviewResult

AGAIN_SECONDS = 600.0
"""Before the same is said of the same owner again."""

MAX_WAITING, MAX_REMEMBERED = 100, 1000

REFERENCE = ("apiVersion", "kind", "name", "uid")
"""What an Event is about (Kubernetes API reference, ObjectReference)."""

MAX_REFERENCE_CHARACTERS = 253
"""Of each: the longest that a name may be. The API server looks at a Pod's owners only after the webhooks."""

COMPONENT = "irsa-sidecar-webhook"


class Events:
    """`tell` never waits; `run` sends."""

    def __init__(
        self, api: KubernetesApi, log: Logger, metrics: WebhookMetrics, now: Callable[[], float], instance: str
    ) -> None:
        self._api = api
        self._log = log
        self._metrics = metrics
        self._now = now
        self._instance = instance
        self._send, self._receive = trio.open_memory_channel[tuple[str, Document]](MAX_WAITING)
        self._told_at: dict[tuple[str, str], float] = {}

    def tell(self, review: Review, result: ReviewResult) -> None:
        """Have an Event sent for each warning that nobody would see."""
        owner = _owner(review)
        if owner is None or review.is_dry_run:
            return
        for warning in result.warnings:
            if self._is_news(owner["uid"], warning):
                event = self._event(review.namespace, owner, warning)
                try:
                    self._send.send_nowait((review.namespace, event))
                except trio.WouldBlock:
                    self._metrics.count_event("dropped")

    async def run(self) -> None:
        """Send them until cancelled."""
        async for namespace, event in self._receive:
            try:
                await self._api.create(f"/api/v1/namespaces/{namespace}/events", event)
                self._metrics.count_event("sent")
                self._log.info("event_sent", namespace=namespace, involved_object=event["involvedObject"]["name"])
            except KubernetesError as error:
                self._metrics.count_event("failed")
                self._log.warning("event_send_failed", reason=str(error))

    def _is_news(self, owner: str, warning: str) -> bool:
        now = self._now()
        if now - self._told_at.get((owner, warning), float("-inf")) < AGAIN_SECONDS:
            return False
        if len(self._told_at) >= MAX_REMEMBERED:
            self._told_at = {key: at for key, at in self._told_at.items() if now - at < AGAIN_SECONDS}
        if len(self._told_at) < MAX_REMEMBERED:
            self._told_at[owner, warning] = now
        return True

    def _event(self, namespace: str, owner: Document, warning: str) -> Document:
        at = instant_text(self._now())
        involved = {key: owner[key] for key in REFERENCE}
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"generateName": "irsa-sidecar-", "namespace": namespace},
            "involvedObject": {**involved, "namespace": namespace},
            "type": "Warning",
            "reason": reason_of(warning),
            "message": warning,
            "count": 1,
            "firstTimestamp": at,
            "lastTimestamp": at,
            "source": {"component": COMPONENT},
            "reportingComponent": COMPONENT,
            "reportingInstance": self._instance,
        }


def _owner(review: Review) -> Document | None:
    owners = ((review.pod or {}).get("metadata") or {}).get("ownerReferences")
    if not isinstance(owners, list):
        return None
    return next((owner for owner in owners if _is_controller(owner)), None)


def _is_controller(owner: Any) -> bool:
    """Whether it is the Pod's, and one that there can be: of what there cannot be nothing is kept."""
    return (
        isinstance(owner, dict)
        and bool(owner.get("controller"))
        and all(isinstance(owner.get(key), str) for key in REFERENCE)
        and all(0 < len(owner[key]) <= MAX_REFERENCE_CHARACTERS for key in REFERENCE)
    )
