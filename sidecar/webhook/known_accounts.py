"""
What is remembered of ServiceAccounts, within bounds that no namespace can use up for the others. Pure.

Rule: of each account only annotations that injection can use are kept: a role's ARN that is one, and values no longer
than they can be. Accounts beyond a namespace's share, or beyond what all may take, are not remembered, and the API
server is asked for them.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping
from itertools import islice

from sidecar.injection.names import (
    ACCOUNT_ANNOTATIONS,
    AMAZONS_AUDIENCE,
    AMAZONS_ROLE_ARN,
    AMAZONS_STS_REGIONAL,
    AMAZONS_TOKEN_EXPIRATION,
    Document,
)
from sidecar.injection.options import MAX_AUDIENCE_CHARACTERS
from sidecar.injection.settings import ServiceAccount
from sidecar.injection.similar_names import MAX_NAME_CHARACTERS

ACCOUNT_BYTES = 700
"""What Python takes for one account, beside the text of its annotations."""

TEXT_BYTES = 72
"""What Python takes for one more text in a tuple, beside its characters."""

MAX_BYTES = 64 * 1024 * 1024
"""For all accounts: some 80,000 with a role each. The manifests give the process 256 MiB."""

MAX_BYTES_OF_NAMESPACE = 4 * 1024 * 1024
"""For one namespace: some 5,000 accounts with a role each."""

MAX_ROLE_ARN_CHARACTERS = 600
"""IAM's limits: 64 characters for a name, 512 for a path."""

MAX_UNREAD = 4
"""How many names of an account's other annotations are kept, for the sentence that names one that is almost right."""

_MAY_BE_MEANT = re.compile(rf"(?=.{{1,{MAX_NAME_CHARACTERS}}}\Z).*(?:role|arn|eks|amazon)", re.IGNORECASE).match

_USABLE: Mapping[str, Callable[[str], object]] = {
    AMAZONS_ROLE_ARN: re.compile(r"arn:aws[a-z-]*:iam::[0-9]{12}:role/[\x21-\x7e]{1,576}").fullmatch,
    AMAZONS_AUDIENCE: re.compile(rf"[\x21-\x7e]{{1,{MAX_AUDIENCE_CHARACTERS}}}").fullmatch,
    AMAZONS_STS_REGIONAL: re.compile(r"true|false", re.IGNORECASE).fullmatch,
    AMAZONS_TOKEN_EXPIRATION: re.compile(r"[0-9]{1,9}").fullmatch,
}
"""What a value must be so that injection can use it. An account with another value is asked for when it is needed."""

assert set(_USABLE) == set(ACCOUNT_ANNOTATIONS)

Key = tuple[str, str]
"""Namespace and name."""


def read_account(document: Document) -> ServiceAccount:
    """Return what injection reads of a ServiceAccount, whole. Raises KeyError, TypeError or AttributeError."""
    metadata = document["metadata"]
    annotations = metadata.get("annotations") or {}
    kept = {name: annotations[name] for name in ACCOUNT_ANNOTATIONS if name in annotations}
    unread = (name for name in annotations if name not in kept and _MAY_BE_MEANT(name))
    return ServiceAccount(metadata["namespace"], metadata["name"], kept, tuple(islice(unread, MAX_UNREAD)))


def is_usable(account: ServiceAccount) -> bool:
    """Return whether each annotation has a value that injection can use."""
    return all(_USABLE[name](value) for name, value in account.annotations.items())


class KnownAccounts:
    """The accounts of a cluster, as far as they fit."""

    def __init__(self) -> None:
        self._accounts: dict[Key, ServiceAccount] = {}
        self._bytes: Counter[str] = Counter()
        self._total = 0
        self.beyond = 0
        """How many accounts were not kept since this was created."""

    def __len__(self) -> int:
        return len(self._accounts)

    def get(self, namespace: str, name: str) -> ServiceAccount | None:
        return self._accounts.get((namespace, name))

    def put(self, account: ServiceAccount) -> None:
        """Replace an earlier version by this account, if it is usable and fits."""
        self.remove(account.namespace, account.name)
        size = _size(account)
        is_over = self._bytes[account.namespace] + size > MAX_BYTES_OF_NAMESPACE or self._total + size > MAX_BYTES
        if not is_usable(account) or is_over:
            self.beyond += 1
            return
        self._accounts[account.namespace, account.name] = account
        self._count(account.namespace, size)

    def remove(self, namespace: str, name: str) -> None:
        account = self._accounts.pop((namespace, name), None)
        if account is not None:
            self._count(namespace, -_size(account))

    def _count(self, namespace: str, size: int) -> None:
        self._total += size
        self._bytes[namespace] += size
        if not self._bytes[namespace]:
            del self._bytes[namespace]


def _size(account: ServiceAccount) -> int:
    texts = (account.namespace, account.name, *account.annotations.values(), *account.unread)
    return ACCOUNT_BYTES + TEXT_BYTES * len(account.unread) + sum(map(len, texts))
