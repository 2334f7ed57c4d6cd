"""Build the Namespace and the ServiceAccounts of the cases."""

from tests.policies.cases import ACCOUNTS, NAMESPACE, Document

POLICIES_LABEL = "irsa-sidecar.io/policies"
"""The label of a Namespace that enables the policies, with the value `enforce` or `warn`."""


def namespace(mode: str) -> Document:
    """Return the Namespace of the cases."""
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": {POLICIES_LABEL: mode}}}


def service_accounts() -> list[Document]:
    """Return the ServiceAccounts of the cases."""
    return [_service_account(name, role) for name, role in ACCOUNTS.items()]


def _service_account(name: str, role: str | None) -> Document:
    annotations = {} if role is None else {"eks.amazonaws.com/role-arn": role}
    metadata = {"name": name, "namespace": NAMESPACE, "annotations": annotations}
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}
