"""Find the roles that concern a cluster, before their trust policies are evaluated. Pure."""

from collections.abc import Mapping
from typing import Any

from sidecar.local.trust_policy import as_list
from sidecar.oidc.verification import issuer_key


def names_issuer(trust_policy: Mapping[str, Any], issuer: str) -> bool:
    """Return whether a statement names the OIDC provider of the issuer, in any account."""
    suffix = f":oidc-provider/{issuer_key(issuer)}"
    return bool(issuer) and any(name.endswith(suffix) for name in _federated(trust_policy))


def _federated(trust_policy: Mapping[str, Any]) -> list[str]:
    principals = [each.get("Principal") for each in as_list(trust_policy.get("Statement")) if isinstance(each, Mapping)]
    values = [each.get("Federated") for each in principals if isinstance(each, Mapping)]
    return [name for value in values for name in as_list(value) if isinstance(name, str)]
