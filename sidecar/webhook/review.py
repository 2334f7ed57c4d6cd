"""
Decide on an admission review. Pure.

Rule: a Pod that requests a sidecar gets one, or is rejected with a message. It never starts without one, because its
SDKs would then use the node's role. (AdmissionReview v1: Kubernetes documentation, Dynamic Admission Control.)
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
from sidecar.printable import printable

_NAME = re.compile(NAME)
"""A pattern for the names of namespaces and ServiceAccounts (RFC 1123 subdomain)."""

MAX_PARTS = 400_000
"""
Limit for the number of values in a review. The separators are counted before the review is parsed.

A parsed value uses up to 150 bytes. A Pod of 3 MiB, the largest object that the API server accepts, has 380,000 values
if it consists of short variables.
"""

MAX_PATCH_BYTES = 1024 * 1024
"""Limit for the change to a Pod. etcd accepts objects of at most 1.5 MiB."""

MAX_REASON_CHARACTERS = 2000
"""Longest text of a rejection, which is logged and shown to the Pod's author. The text may quote the Pod."""

API_VERSION, KIND = "admission.k8s.io/v1", "AdmissionReview"


class Outcome(Enum):
    """The outcome of a review, by its name in metrics and logs."""

    INJECTED = "injected"
    DENIED = "denied"
    SKIPPED = "skipped"
    """The review is not about a Pod that requests a sidecar."""
    FAILED = "failed"
    """The Pod is denied because of a temporary or internal error."""


class Review(NamedTuple):
    """A valid review. `service_account` is a name. `pod` is None unless the review is of a Pod that needs a sidecar."""

    uid: str
    namespace: str
    service_account: str
    pod: Document | None
    is_dry_run: bool = False

    @property
    def name(self) -> str:
        """Return the Pod's name, or its prefix and `*` because the API server completes a name after the webhooks."""
        metadata = (self.pod or {}).get("metadata") or {}
        return str(metadata.get("name") or f"{metadata.get('generateName') or ''}*")

    @property
    def names_role(self) -> bool:
        """Return whether an annotation of the Pod names its role or roles."""
        annotations = ((self.pod or {}).get("metadata") or {}).get("annotations") or {}
        return isinstance(annotations, dict) and (ROLE_ARN in annotations or ROLES in annotations)

    @property
    def lists_roles(self) -> bool:
        """Return whether the Pod has an annotation with a list of roles, which takes long to parse."""
        annotations = ((self.pod or {}).get("metadata") or {}).get("annotations") or {}
        return isinstance(annotations, dict) and ROLES in annotations

    @property
    def without_content(self) -> "Review":
        """Return the review with nothing of the Pod but its name, because a parsed Pod can use a lot of memory."""
        metadata = (self.pod or {}).get("metadata") or {}
        names = {key: metadata[key] for key in ("name", "generateName") if isinstance(metadata.get(key), str)}
        return self._replace(pod={"metadata": names})

    @property
    def containers(self) -> int:
        """Return the number of the Pod's containers. The work for a Pod is proportional to this number."""
        spec = (self.pod or {}).get("spec") or {}
        lists = (spec.get("containers"), spec.get("initContainers"))
        return sum(len(each) for each in lists if isinstance(each, list))


class ReviewResult(NamedTuple):
    """The response to a review, its outcome, and warnings for the author. `fault` is an unexpected exception."""

    document: Document
    outcome: Outcome
    reason: str | None = None
    warnings: tuple[str, ...] = ()
    fault: Exception | None = None


def read_review(body: bytes) -> Review:
    """
    Parse a review.

    Raises ConfigurationError unless it is an AdmissionReview v1 of an acceptable size, with valid names.
    """
    if parts_in(body) > MAX_PARTS:
        raise ConfigurationError(
            f"The review has more than {MAX_PARTS} values",
            fix="Make the Pod smaller",
        )
    try:
        review = json.loads(body)
        request: Any = review["request"]
        uid, version = request["uid"], review["apiVersion"]
        pod = request.get("object")
        spec = pod.get("spec") or {} if isinstance(pod, dict) else {}
        service_account, namespace = spec.get("serviceAccountName") or "default", request.get("namespace") or "default"
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
        raise ConfigurationError(
            "The body is not an AdmissionReview",
            fix="Use this path only for Pods in the MutatingWebhookConfiguration",
        ) from exc
    if version != API_VERSION or not all(isinstance(text, str) for text in (uid, service_account, namespace)):
        raise ConfigurationError(
            f"The body is not an AdmissionReview of {API_VERSION}",
            fix="Set admissionReviewVersions: [v1]",
        )
    # The objectSelector requires the label too. Without this check, a wrong objectSelector would change all Pods.
    is_ours = _is_pod(request) and request.get("operation") == "CREATE" and wants_injection(pod)
    if is_ours and not all(map(_NAME.fullmatch, (service_account, namespace))):
        # The names become part of request paths at the API server, with the webhook's own permissions.
        problem = "The body names a namespace or a ServiceAccount whose name is not valid"
        raise ConfigurationError(problem, fix="Correct the name")
    return Review(uid, namespace, service_account, pod if is_ours else None, bool(request.get("dryRun")))


def parts_in(body: bytes) -> int:
    """Return an upper bound for the number of values in the JSON text. Separators within quotes count too."""
    return body.count(b",") + body.count(b"[") + body.count(b"{")


def _is_pod(request: Document) -> bool:
    kind = request.get("kind")
    is_kind = isinstance(kind, dict) and kind.get("kind") == "Pod" and not kind.get("group")
    return is_kind and not request.get("subResource")


def decide(review: Review, service_account: ServiceAccount | None, settings: Settings) -> ReviewResult:
    """
    Return the result of a review. `service_account` is None if it does not exist, or is not necessary. Never raises.

    A Pod that causes an unexpected exception is rejected with a message. Without a response, the API server would show
    the author only that the webhook failed.
    """
    if review.pod is None:
        return ReviewResult(_response(review, {"allowed": True}), Outcome.SKIPPED)
    try:
        return _injected(review, review.pod, service_account, settings)
    except ConfigurationError as error:
        return _denied(review, str(error), 422, Outcome.DENIED)
    except Exception as exc:  # noqa: BLE001  it affects only this Pod
        text = (
            f"irsa-sidecar could not read this Pod ({type(exc).__name__}). Remove unusual content from its annotations "
            "and fields, and report this as a bug."
        )
        return _denied(review, text, 500, Outcome.FAILED)._replace(fault=exc)


def _injected(
    review: Review, pod: Document, service_account: ServiceAccount | None, settings: Settings
) -> ReviewResult:
    injected = inject(pod, service_account, settings)
    patch = as_json(json_patch(pod, injected.pod))
    if len(patch) > MAX_PATCH_BYTES:
        raise ConfigurationError(
            f"The change to the Pod has {len(patch)} bytes, and the limit is {MAX_PATCH_BYTES}",
            fix=f"Use fewer containers, or fewer fields in the container {CONTAINER}",
        )
    response: Document = {"allowed": True}
    if patch != b"[]":
        response |= {"patchType": "JSONPatch", "patch": base64.b64encode(patch).decode()}
    if injected.warnings:
        response["warnings"] = [printable(warning) for warning in injected.warnings]
    return ReviewResult(_response(review, response), Outcome.INJECTED, warnings=injected.warnings)


def temporarily_denied(review: Review, reason: str) -> ReviewResult:
    """Deny the Pod because of an error elsewhere, in a way that makes the Pod's creator try again."""
    text = f"ServiceAccount {review.namespace}/{review.service_account} could not be fetched: {reason}"
    return _denied(review, text, 503, Outcome.FAILED)


def busy(review: Review) -> ReviewResult:
    """Deny the Pod because too many expensive reviews are waiting, in a way that makes the Pod's creator try again."""
    text = f"Too many Pods with the annotation {ROLES}, or with very much content, are being created. Try again."
    return _denied(review, text, 503, Outcome.FAILED)


_ENCODER = json.JSONEncoder(separators=(",", ":"), check_circular=False)
"""An encoder without white space. The documents come from JSON, so they have no cycles."""


def as_json(document: Any) -> bytes:
    """Return the document as JSON in the shortest form, because the patch is also encoded as base64."""
    return _ENCODER.encode(document).encode("ascii")


def _denied(review: Review, reason: str, code: int, outcome: Outcome) -> ReviewResult:
    reason = printable(reason, keep="\n", max_length=MAX_REASON_CHARACTERS)
    status = {"status": "Failure", "message": reason, "code": code}
    return ReviewResult(_response(review, {"allowed": False, "status": status}), outcome, reason)


def _response(review: Review, fields: Document) -> Document:
    return {"apiVersion": API_VERSION, "kind": KIND, "response": {"uid": review.uid, **fields}}
