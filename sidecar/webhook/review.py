"""
What a review is answered with. Pure.

Rule: a Pod that asked for a sidecar gets one or is refused with a sentence; it never starts without one in silence,
where its SDKs would turn to the node's role. (AdmissionReview v1: Kubernetes documentation, Dynamic Admission Control.)
"""

import base64
import json
import re
from enum import Enum
from typing import Any, NamedTuple

from sidecar.errors import ConfigurationError
from sidecar.injection.inject import inject
from sidecar.injection.json_patch import json_patch
from sidecar.injection.names import CONTAINER, ROLE_ARN, ROLES
from sidecar.injection.settings import ServiceAccount, Settings
from sidecar.injection.validation import wants_injection
from sidecar.kubernetes.document import Document
from sidecar.kubernetes.names import NAME

_NAME = re.compile(NAME)
"""Of a namespace or a ServiceAccount (RFC 1123 subdomain), which the API server has checked; others have not."""

MAX_PARTS = 400_000
"""
Values in a review, counted by their separators before it is parsed: parsed, a value takes up to 150 bytes.

A Pod of 3 MiB, the largest object that the API server takes, has 380,000 if it is nothing but short variables.
"""

MAX_PATCH_BYTES = 1024 * 1024
"""Of the change to a Pod. etcd takes objects of 1.5 MiB."""

MAX_REASON_CHARACTERS = 2000
"""Longest rejection, which is logged and shown to the Pod's author. It may quote the Pod."""

API_VERSION, KIND = "admission.k8s.io/v1", "AdmissionReview"


class Outcome(Enum):
    """As metrics and logs name it."""

    INJECTED = "injected"
    DENIED = "denied"
    SKIPPED = "skipped"
    """Not ours to change."""
    FAILED = "failed"
    """Refused for now, as the ServiceAccount could not be asked for."""


class Review(NamedTuple):
    """A review that can be answered. `account` is the name of the Pod's ServiceAccount; `pod` None: not ours."""

    uid: str
    namespace: str
    service_account: str
    pod: Document | None
    is_dry_run: bool = False

    @property
    def name(self) -> str:
        """The Pod's, which is made up after the webhooks for those that a controller makes."""
        metadata = (self.pod or {}).get("metadata") or {}
        return str(metadata.get("name") or f"{metadata.get('generateName') or ''}*")

    @property
    def names_role(self) -> bool:
        """Whether the Pod says itself which role it wants."""
        annotations = ((self.pod or {}).get("metadata") or {}).get("annotations") or {}
        return isinstance(annotations, dict) and (ROLE_ARN in annotations or ROLES in annotations)

    @property
    def lists_roles(self) -> bool:
        """Whether the Pod has a list of roles, which takes a parser."""
        annotations = ((self.pod or {}).get("metadata") or {}).get("annotations") or {}
        return isinstance(annotations, dict) and ROLES in annotations


class ReviewResult(NamedTuple):
    """The answer, what it was, and what the Pod's author should know. `fault` is an exception that nobody foresaw."""

    document: Document
    outcome: Outcome
    reason: str | None = None
    warnings: tuple[str, ...] = ()
    fault: Exception | None = None


def read_review(body: bytes) -> Review:
    """Raises ConfigurationError for what is no AdmissionReview of v1, or one that would take too much to parse."""
    if parts_in(body) > MAX_PARTS:
        raise ConfigurationError(f"The review has more than {MAX_PARTS} values: make the Pod smaller.")
    try:
        review = json.loads(body)
        request: Any = review["request"]
        uid, version = request["uid"], review["apiVersion"]
        pod = request.get("object")
        spec = pod.get("spec") or {} if isinstance(pod, dict) else {}
        service_account, namespace = spec.get("serviceAccountName") or "default", request.get("namespace") or "default"
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
        raise ConfigurationError(
            "The body is no AdmissionReview: give its configuration this path for Pods only."
        ) from exc
    if version != API_VERSION or not all(isinstance(text, str) for text in (uid, service_account, namespace)):
        raise ConfigurationError(f"The body is no AdmissionReview of {API_VERSION}: set admissionReviewVersions: [v1].")
    # The configuration's objectSelector asks for the label too; without this, a wrong one would change every Pod.
    is_ours = _is_pod(request) and request.get("operation") == "CREATE" and wants_injection(pod)
    if is_ours and not all(map(_NAME.fullmatch, (service_account, namespace))):
        # They become part of paths at the API server, which is asked with the webhook's own rights.
        raise ConfigurationError("The body names a namespace or a ServiceAccount that there cannot be.")
    return Review(uid, namespace, service_account, pod if is_ours else None, bool(request.get("dryRun")))


def parts_in(body: bytes) -> int:
    """Return how many values the JSON text has, or more: what is between quotes counts too."""
    return body.count(b",") + body.count(b"[") + body.count(b"{")


def _is_pod(request: Document) -> bool:
    kind = request.get("kind")
    is_kind = isinstance(kind, dict) and kind.get("kind") == "Pod" and not kind.get("group")
    return is_kind and not request.get("subResource")


def decide(review: Review, service_account: ServiceAccount | None, settings: Settings) -> ReviewResult:
    """
    Return the response to a review, given what is known of the Pod's ServiceAccount. It never raises.

    A Pod whose content makes us raise something unforeseen is rejected with a sentence. Without a response the API
    server would show its author only that the webhook failed.
    """
    if review.pod is None:
        return ReviewResult(_response(review, {"allowed": True}), Outcome.SKIPPED)
    try:
        return _injected(review, review.pod, service_account, settings)
    except ConfigurationError as error:
        return _denied(review, str(error), 422, Outcome.DENIED)
    except Exception as exc:  # noqa: BLE001  whatever it is, it concerns this Pod alone
        text = (
            f"irsa-sidecar could not read this Pod ({type(exc).__name__}). Remove unusual content from its annotations "
            "and fields, and report this as a bug."
        )
        return _denied(review, text, 500, Outcome.FAILED)._replace(fault=exc)


def _injected(
    review: Review, pod: Document, service_account: ServiceAccount | None, settings: Settings
) -> ReviewResult:
    injected = inject(pod, service_account, settings)
    patch = json.dumps(json_patch(pod, injected.pod)).encode()
    if len(patch) > MAX_PATCH_BYTES:
        raise ConfigurationError(
            f"The change to the Pod has {len(patch)} bytes, and may have {MAX_PATCH_BYTES}: give it fewer "
            f"containers, or less in its container {CONTAINER}."
        )
    said: Document = {"allowed": True}
    if patch != b"[]":
        said |= {"patchType": "JSONPatch", "patch": base64.b64encode(patch).decode()}
    if injected.warnings:
        said["warnings"] = list(injected.warnings)
    return ReviewResult(_response(review, said), Outcome.INJECTED, warnings=injected.warnings)


def temporarily_denied(review: Review, why: str) -> ReviewResult:
    """A refusal because something is out of order here and not in the Pod: whoever made it tries again."""
    text = f"ServiceAccount {review.namespace}/{review.service_account} could not be asked for: {why}"
    return _denied(review, text, 503, Outcome.FAILED)


def busy(review: Review) -> ReviewResult:
    """A refusal because too many Pods that take long wait for their turn: whoever made it tries again."""
    text = f"Too many Pods with the annotation {ROLES}, or with very much in them, are being created: try again"
    return _denied(review, text, 503, Outcome.FAILED)


def _denied(review: Review, reason: str, code: int, outcome: Outcome) -> ReviewResult:
    if len(reason) > MAX_REASON_CHARACTERS:
        reason = f"{reason[:MAX_REASON_CHARACTERS]}…"
    status = {"status": "Failure", "message": reason, "code": code}
    return ReviewResult(_response(review, {"allowed": False, "status": status}), outcome, reason)


def _response(review: Review, said: Document) -> Document:
    return {"apiVersion": API_VERSION, "kind": KIND, "response": {"uid": review.uid, **said}}
