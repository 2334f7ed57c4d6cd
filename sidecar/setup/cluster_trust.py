"""
Copy the statements of one cluster in a trust policy for another cluster, and remove the statements of a cluster. Pure.

Rule: a copy differs from its statement only in the OIDC provider, in the condition keys and policy variables of that
provider, and in the Sid. If a statement lists its providers and has no condition on the keys of this provider, the new
provider is added to the list instead. All other statements keep their content and their order. So removing the new
cluster again restores the former policy.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from sidecar.errors import ConfigurationError
from sidecar.local.trust_policy import as_list, statement_label
from sidecar.oidc.verification import issuer_key
from sidecar.setup.trust_policy import TrustGrant, as_mapping, normalised, statements_of

DERIVED_SID_CHARACTERS = 8
"""Length of the hash at the end of a copied statement's Sid. IAM accepts only letters and digits in a Sid."""

Statement = Mapping[str, Any]


class ClusterIssuer(NamedTuple):
    """The issuer of a cluster, and the ARN of its OIDC provider in the account."""

    url: str
    provider_arn: str

    @property
    def key(self) -> str:
        return issuer_key(self.url)

    @property
    def own_sid(self) -> str:
        """Return the Sid that `setup role` gives its statement for this issuer."""
        return TrustGrant(self.provider_arn, self.url, "", ()).sid


def trusts(document: Mapping[str, Any], issuer: ClusterIssuer) -> bool:
    """Return whether a statement names the issuer's OIDC provider."""
    return any(issuer.provider_arn in _federated(statement) for statement in statements_of(document))


def with_cluster(document: Mapping[str, Any], like: ClusterIssuer, new: ClusterIssuer) -> dict[str, Any]:
    """
    Return the trust policy in which the new cluster has the same access as the cluster `like`.

    A policy that already has the copies is returned unchanged, so an interrupted change can be repeated.
    """
    statements: list[Any] = []
    existing = statements_of(document)
    for statement in existing:
        statements.append(_extended(statement, like, new))
        if like.provider_arn in _federated(statement) and not _is_shared(statement, like):
            copy = _copied(statement, like, new)
            if not any(_has_same_meaning(copy, other) for other in existing):
                statements.append(copy)
    return {**document, "Statement": statements} if statements != existing else dict(document)


def without_cluster(document: Mapping[str, Any], retired: ClusterIssuer) -> dict[str, Any]:
    """
    Return the trust policy without the cluster.

    Raises ConfigurationError if no statement would remain, because IAM requires one.
    """
    statements = [reduced for each in statements_of(document) if (reduced := _reduced(each, retired)) is not None]
    if not statements:
        raise ConfigurationError(
            "only this cluster can assume the role, and IAM requires a statement", fix="Delete the role"
        )
    return {**document, "Statement": statements} if statements != statements_of(document) else dict(document)


def differing_copies(document: Mapping[str, Any], like: ClusterIssuer, new: ClusterIssuer) -> Iterator[str]:
    """Yield the labels of statements for the new cluster that have the Sid of a copy but other content."""
    for statement in statements_of(document):
        if like.provider_arn not in _federated(statement) or _is_shared(statement, like):
            continue
        copy = _copied(statement, like, new)
        for index, other in enumerate(statements_of(document), 1):
            is_same_sid = copy.get("Sid") is not None and as_mapping(other).get("Sid") == copy["Sid"]
            if is_same_sid and not _has_same_meaning(copy, other):
                yield statement_label(other, index)


def _federated(statement: Any) -> list[Any]:
    return as_list(as_mapping(as_mapping(statement).get("Principal")).get("Federated"))


def _is_shared(statement: Statement, issuer: ClusterIssuer) -> bool:
    """Return whether the statement lists its providers and has no condition on this issuer's keys."""
    is_list = isinstance(as_mapping(statement["Principal"])["Federated"], list)
    return is_list and not any(_is_key_of(key, issuer) for _, key in _condition_keys(statement))


def _condition_keys(statement: Statement) -> Iterator[tuple[str, str]]:
    for operator, keys in as_mapping(statement.get("Condition")).items():
        yield from ((operator, key) for key in as_mapping(keys))


def _is_key_of(key: str, issuer: ClusterIssuer) -> bool:
    """Return whether the condition key belongs to the issuer. IAM ignores the case of keys."""
    return key.lower().startswith(f"{issuer.key.lower()}:")


def _extended(statement: Any, like: ClusterIssuer, new: ClusterIssuer) -> Any:
    """Return the statement, with the new provider added to its list if the statement is shared with `like`."""
    providers = _federated(statement)
    if like.provider_arn not in providers or not _is_shared(statement, like) or new.provider_arn in providers:
        return statement
    return {**statement, "Principal": {**statement["Principal"], "Federated": [*providers, new.provider_arn]}}


def _copied(statement: Statement, like: ClusterIssuer, new: ClusterIssuer) -> dict[str, Any]:
    copy = {**statement, "Principal": {"Federated": new.provider_arn}}
    if "Condition" in statement:
        copy["Condition"] = {
            operator: {_renamed(key, like, new): _replaced(value, like, new) for key, value in as_mapping(keys).items()}
            for operator, keys in as_mapping(statement["Condition"]).items()
        }
    if "Sid" in statement:
        copy["Sid"] = _sid(str(statement["Sid"]), like, new)
    return copy


def _renamed(key: str, like: ClusterIssuer, new: ClusterIssuer) -> str:
    return new.key + key[len(like.key) :] if _is_key_of(key, like) else key


def _replaced(value: Any, like: ClusterIssuer, new: ClusterIssuer) -> Any:
    """Return the value with the issuer's policy variables replaced, such as `${…/id/A:sub}`."""
    if isinstance(value, list):
        return [_replaced(item, like, new) for item in value]
    if not isinstance(value, str):
        return value
    return re.sub(re.escape(f"${{{like.key}:"), lambda _: f"${{{new.key}:", value, flags=re.IGNORECASE)


def _sid(sid: str, like: ClusterIssuer, new: ClusterIssuer) -> str:
    if sid == like.own_sid:
        return new.own_sid
    return sid + hashlib.sha256(new.url.encode()).hexdigest()[:DERIVED_SID_CHARACTERS]


def _reduced(statement: Any, retired: ClusterIssuer) -> Any:
    """Return the statement without the cluster's provider, or None if it has no other principal."""
    providers = _federated(statement)
    if retired.provider_arn not in providers:
        return statement
    others = [name for name in providers if name != retired.provider_arn]
    principal = {**statement["Principal"], "Federated": others}
    if not others:
        del principal["Federated"]
    return {**statement, "Principal": principal} if principal else None


def _has_same_meaning(statement: Any, other: Any) -> bool:
    """Return whether both statements are equal, ignoring the Sid and the order and form of lists."""
    return isinstance(other, Mapping) and bool(normalised(statement) == normalised(other))
