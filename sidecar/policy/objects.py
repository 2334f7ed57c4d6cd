"""
Build the objects of the policy, with which the API server injects sidecars. Pure.

The failure policy is Fail, so the API server rejects a Pod if an expression fails. The ValidatingAdmissionPolicy
rejects each Pod that requests a sidecar and still has none after all mutations. This includes a Pod whose
ServiceAccount is not yet in the API server's cache, because the mutating policy does not change such a Pod.
"""

from sidecar.injection.names import INJECT_FALSE, INJECT_LABEL, REJECTION
from sidecar.injection.settings import Settings
from sidecar.kubernetes.document import Document
from sidecar.policy.cel import text
from sidecar.policy.patch import patch
from sidecar.policy.rejection import rejections
from sidecar.policy.variables import HAS_SIDECAR, OPTIONS, POD, RESOURCES, settings_variables

API_VERSION = "admissionregistration.k8s.io/v1"

FIRST_VERSION = (1, 36)
"""The first version of Kubernetes that has MutatingAdmissionPolicy in API_VERSION."""

NAME = "irsa-sidecar"

LABELS = {"app.kubernetes.io/name": "irsa-sidecar", "app.kubernetes.io/component": "policy"}

MATCHED: Document = {
    "resourceRules": [
        {
            "apiGroups": [""],
            "apiVersions": ["v1"],
            "operations": ["CREATE"],
            "resources": ["pods"],
            "scope": "Namespaced",
        }
    ],
    "objectSelector": {
        "matchExpressions": [
            {"key": INJECT_LABEL, "operator": "Exists"},
            {"key": INJECT_LABEL, "operator": "NotIn", "values": [INJECT_FALSE]},
        ]
    },
}
"""The Pods that request a sidecar, as in the webhook's configuration."""

MESSAGE = "The Pod requests irsa-sidecar, but the policy irsa-sidecar has not added it."
"""The message of the validating policy if the reason is too long for the API server (5 KiB)."""

UNKNOWN_ACCOUNT = (
    '"The policy has not added the sidecar to this Pod: the API server does not know ServiceAccount " +\n'
    'object.metadata.namespace + "/" + object.spec.serviceAccountName + " yet, or has no '
    'MutatingAdmissionPolicy irsa-sidecar with its binding. Create the Pod again, and check the policy."'
)


def policy_objects(settings: Settings) -> list[Document]:
    """Return the two policies, each with its binding."""
    return [_mutating(settings), _mutating_binding(), _validating(), _validating_binding()]


def _object(kind: str, spec: Document) -> Document:
    metadata = {"name": NAME, "labels": dict(LABELS)}
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": spec}


def _mutating(settings: Settings) -> Document:
    variables = {**settings_variables(settings), **RESOURCES, **OPTIONS, **POD, **rejections()}
    return _object(
        "MutatingAdmissionPolicy",
        {
            "failurePolicy": "Fail",
            "reinvocationPolicy": "Never",
            "paramKind": {"apiVersion": "v1", "kind": "ServiceAccount"},
            "matchConstraints": MATCHED,
            "matchConditions": [
                {"name": "own-service-account", "expression": "params.metadata.name == object.spec.serviceAccountName"},
                {"name": "no-sidecar", "expression": f"!({HAS_SIDECAR})"},
            ],
            "variables": [{"name": name, "expression": expression} for name, expression in variables.items()],
            "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": patch()}}],
        },
    )


def _mutating_binding() -> Document:
    params = {"selector": {}, "parameterNotFoundAction": "Deny"}
    return _object("MutatingAdmissionPolicyBinding", {"policyName": NAME, "paramRef": params})


def _validating() -> Document:
    message = f"object.metadata.?annotations[?{text(REJECTION)}].orValue(\n{UNKNOWN_ACCOUNT})"
    validation = {"expression": HAS_SIDECAR, "message": MESSAGE, "messageExpression": message, "reason": "Forbidden"}
    spec = {"failurePolicy": "Fail", "matchConstraints": MATCHED, "validations": [validation]}
    return _object("ValidatingAdmissionPolicy", spec)


def _validating_binding() -> Document:
    return _object("ValidatingAdmissionPolicyBinding", {"policyName": NAME, "validationActions": ["Deny"]})
