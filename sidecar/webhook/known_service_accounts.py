"""
Keep ServiceAccounts in memory, with a limit for each namespace and a limit for all of them. Pure.

Rule: only annotations that injection can use are kept: a valid ARN for the role, and values that are not too long.
A ServiceAccount with another value, or beyond the limit of its namespace or the limit for all, is not kept. The webhook
requests it from the API server.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping
from itertools import islice

from sidecar.injection.names import (
    EKS_AUDIENCE,
    EKS_ROLE_ARN,
    EKS_STS_REGIONAL,
    EKS_TOKEN_EXPIRATION,
    SERVICE_ACCOUNT_ANNOTATIONS,
)
from sidecar.injection.options import MAX_AUDIENCE_CHARACTERS
from sidecar.injection.settings import ServiceAccount
from sidecar.injection.similar_names import MAX_NAME_CHARACTERS
from sidecar.kubernetes.document import Document

SERVICE_ACCOUNT_BYTES = 700
"""Memory that Python uses for one ServiceAccount, without the texts of its annotations."""

TEXT_BYTES = 72
"""Memory that Python uses for one text in a tuple, without the characters."""

MAX_BYTES = 64 * 1024 * 1024
"""Limit for all ServiceAccounts, about 80,000 with a role each. The manifests give the process 256 MiB."""

MAX_BYTES_OF_NAMESPACE = 4 * 1024 * 1024
"""Limit for one namespace, about 5,000 ServiceAccounts with a role each."""

MAX_UNREAD = 4
"""Maximum number of unknown annotation names that are kept per ServiceAccount. A message suggests the right name."""

_MAY_BE_MEANT = re.compile(rf"(?=.{{1,{MAX_NAME_CHARACTERS}}}\Z).*(?:role|arn|eks|amazon)", re.IGNORECASE).match

_USABLE: Mapping[str, Callable[[str], object]] = {
    EKS_ROLE_ARN: re.compile(r"arn:aws[a-z-]*:iam::[0-9]{12}:role/[\x21-\x7e]{1,576}").fullmatch,
    EKS_AUDIENCE: re.compile(rf"[\x21-\x7e]{{1,{MAX_AUDIENCE_CHARACTERS}}}").fullmatch,
    EKS_STS_REGIONAL: re.compile(r"true|false", re.IGNORECASE).fullmatch,
    EKS_TOKEN_EXPIRATION: re.compile(r"[0-9]{1,9}").fullmatch,
}
"""
The check for the value of each annotation.

If a check fails, the webhook requests the ServiceAccount from the API server for each Pod.

IAM limits the path of a role to 512 characters and its name to 64.
"""

assert set(_USABLE) == set(SERVICE_ACCOUNT_ANNOTATIONS)

Key = tuple[str, str]
"""The key of a ServiceAccount: namespace and name."""


def read_service_account(document: Document) -> ServiceAccount:
    """
    Return the fields that injection reads.

    Raises KeyError, TypeError or AttributeError for a malformed document.
    """
    metadata = document["metadata"]
    annotations = metadata.get("annotations") or {}
    kept = {name: annotations[name] for name in SERVICE_ACCOUNT_ANNOTATIONS if name in annotations}
    unread = (name for name in annotations if name not in kept and _MAY_BE_MEANT(name))
    return ServiceAccount(metadata["namespace"], metadata["name"], kept, tuple(islice(unread, MAX_UNREAD)))


def is_usable(service_account: ServiceAccount) -> bool:
    """Return whether each annotation has a value that injection can use."""
    return all(_USABLE[name](value) for name, value in service_account.annotations.items())


class KnownServiceAccounts:
    """The ServiceAccounts of a cluster, within the limits."""

    def __init__(self) -> None:
        self._accounts: dict[Key, ServiceAccount] = {}
        self._bytes: Counter[str] = Counter()
        self._total = 0
        self.beyond = 0
        """The number of ServiceAccounts that were not kept, because of a limit or an unusable annotation."""

    def __len__(self) -> int:
        return len(self._accounts)

    def get(self, namespace: str, name: str) -> ServiceAccount | None:
        return self._accounts.get((namespace, name))

    def put(self, service_account: ServiceAccount) -> None:
        """Remove the earlier version of the ServiceAccount, and keep this one if it is usable and within the limits."""
        self.remove(service_account.namespace, service_account.name)
        size = _size(service_account)
        is_over = (
            self._bytes[service_account.namespace] + size > MAX_BYTES_OF_NAMESPACE or self._total + size > MAX_BYTES
        )
        if not is_usable(service_account) or is_over:
            self.beyond += 1
            return
        self._accounts[service_account.namespace, service_account.name] = service_account
        self._count(service_account.namespace, size)

    def remove(self, namespace: str, name: str) -> None:
        service_account = self._accounts.pop((namespace, name), None)
        if service_account is not None:
            self._count(namespace, -_size(service_account))

    def _count(self, namespace: str, size: int) -> None:
        self._total += size
        self._bytes[namespace] += size
        if not self._bytes[namespace]:
            del self._bytes[namespace]


def _size(service_account: ServiceAccount) -> int:
    texts = (
        service_account.namespace,
        service_account.name,
        *service_account.annotations.values(),
        *service_account.unread,
    )
    return SERVICE_ACCOUNT_BYTES + TEXT_BYTES * len(service_account.unread) + sum(map(len, texts))
