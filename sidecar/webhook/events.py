"""
Send warnings as Kubernetes Events if the Pod's author would not see them otherwise.

The client that creates a Pod sees a rejection: kubectl prints the text, and the controller of a ReplicaSet or Job sends
an Event (FailedCreate) with the same text. But only kubectl shows warnings. If a controller creates the Pod, the
webhook sends the warning as an Event of the Pod's owner.

Rule: a dry run sends no Event, no response waits for an Event, and an Event is not repeated for each Pod of an owner.
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
from sidecar.printable import printable
from sidecar.webhook.metrics import WebhookMetrics
from sidecar.webhook.review import Review, ReviewResult

REPEAT_SECONDS = 600.0
"""Minimum time between two equal Events about one owner."""

MAX_WAITING, MAX_REMEMBERED = 100, 1000

REFERENCE = ("apiVersion", "kind", "name", "uid")
"""The fields that identify the object of an Event (Kubernetes API reference, ObjectReference)."""

MAX_REFERENCE_CHARACTERS = 253
"""Limit for each field of a reference, as for a name. The API server checks owners only after the webhooks."""

COMPONENT = "irsa-sidecar-webhook"


class Events:
    """The queue of Events. `emit` adds to the queue without waiting, and `run` sends the Events."""

    def __init__(
        self, api: KubernetesApi, log: Logger, metrics: WebhookMetrics, now: Callable[[], float], instance: str
    ) -> None:
        self._api = api
        self._log = log
        self._metrics = metrics
        self._now = now
        self._instance = instance
        self._send, self._receive = trio.open_memory_channel[tuple[str, Document]](MAX_WAITING)
        self._emitted_at: dict[tuple[str, str], float] = {}

    def emit(self, review: Review, result: ReviewResult) -> None:
        """Queue an Event about the Pod's owner, if it has one, for each new warning. Drop it if the queue is full."""
        owner = _owner(review)
        if owner is None or review.is_dry_run:
            return
        for warning in result.warnings:
            if self._is_new(owner["uid"], warning):
                event = self._event(review.namespace, owner, warning)
                try:
                    self._send.send_nowait((review.namespace, event))
                except trio.WouldBlock:
                    self._metrics.count_event("dropped")

    async def run(self) -> None:
        """Send the queued Events until cancelled."""
        async for namespace, event in self._receive:
            try:
                await self._api.create(f"/api/v1/namespaces/{namespace}/events", event)
                self._metrics.count_event("sent")
                self._log.info("event_sent", namespace=namespace, involved_object=event["involvedObject"]["name"])
            except KubernetesError as error:
                self._metrics.count_event("failed")
                self._log.warning("event_send_failed", reason=str(error))

    def _is_new(self, owner: str, warning: str) -> bool:
        now = self._now()
        if now - self._emitted_at.get((owner, warning), float("-inf")) < REPEAT_SECONDS:
            return False
        if len(self._emitted_at) >= MAX_REMEMBERED:
            self._emitted_at = {key: at for key, at in self._emitted_at.items() if now - at < REPEAT_SECONDS}
        if len(self._emitted_at) < MAX_REMEMBERED:
            self._emitted_at[owner, warning] = now
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
            "message": printable(warning),
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
    """Return whether this is a well-formed reference to the Pod's controller. Malformed references are never stored."""
    return (
        isinstance(owner, dict)
        and bool(owner.get("controller"))
        and all(isinstance(owner.get(key), str) for key in REFERENCE)
        and all(0 < len(owner[key]) <= MAX_REFERENCE_CHARACTERS for key in REFERENCE)
    )
