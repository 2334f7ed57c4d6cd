"""
Find the keys with which a cluster's API servers sign tokens.

A token that an API server issues names its key. Clients reach API servers through a load balancer, so each sample uses
a new connection. The start time in an API server's metrics distinguishes the API servers.

Rule: the token of a sample is never stored or shown. Its audience is unknown to all servers, so nobody accepts it.
"""

import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, NamedTuple

import jwt

from sidecar.errors import KubernetesError, SidecarError
from sidecar.kubernetes.document import reading_objects
from sidecar.kubernetes.open_cluster import open_named_cluster
from sidecar.setup.discovery_documents import KEYS_PATH, Documents, read_documents
from sidecar.setup.issuer_checks import DISCOVERY_PATH
from sidecar.setup.publication import keys_by_id
from sidecar.setup.rotation import MAX_TIME

if TYPE_CHECKING:
    from sidecar.kubernetes.client import Kubernetes

TOKEN_PATH = "/api/v1/namespaces/default/serviceaccounts/default/token"  # noqa: S105  it is a path
"""Path of TokenRequest for a ServiceAccount that each cluster has."""

ENDPOINTS_PATH = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes"
"""Path of the list of API servers, which the API servers maintain."""

PODS_PATH = "/api/v1/pods"

METRICS_PATH = "/metrics"

AUDIENCE = "irsa-sidecar-rotation"

TOKEN_SECONDS = 600
"""Lifetime of a sample's token. TokenRequest accepts no shorter one."""

SAMPLES_PER_SERVER = 8
"""
Maximum number of connections for each API server after the first.

With three API servers, one run in 300 misses one by chance.
"""

_STARTED = re.compile(rb"^process_start_time_seconds (\S+)$", re.MULTILINE)

OpenCluster = Callable[[], "AbstractContextManager[Kubernetes]"]
"""A function that opens a new connection to the cluster."""


class Sample(NamedTuple):
    """One API server: its start, its documents, the key with which it signs, and the time on its clock."""

    started_at: float
    documents: Documents
    signing: str
    clock: float


class Signers(NamedTuple):
    """The API servers that responded. `expected` is the number of API servers."""

    samples: tuple[Sample, ...]
    expected: int

    @property
    def documents(self) -> Documents:
        """The documents of the first API server, with the keys of all."""
        first = self.samples[0].documents
        keys = {kid: key for sample in self.samples for kid, key in keys_by_id(sample.documents.keys).items()}
        return Documents(first.discovery, {**first.keys, "keys": list(keys.values())})

    @property
    def accepted(self) -> frozenset[str]:
        """The keys that every API server that responded accepts."""
        return frozenset.intersection(*(frozenset(keys_by_id(each.documents.keys)) for each in self.samples))

    @property
    def signing(self) -> frozenset[str]:
        return frozenset(sample.signing for sample in self.samples)

    @property
    def clock(self) -> float:
        """The latest time on the clocks of the API servers."""
        return max(sample.clock for sample in self.samples)

    @property
    def started_at(self) -> float | None:
        """The start of the newest API server in Unix seconds, or None if an API server did not respond."""
        if len(self.samples) < self.expected:
            return None
        return max(sample.started_at for sample in self.samples)


def cluster_opener(context: str | None, command: str) -> OpenCluster:
    return lambda: open_named_cluster(os.environ, context, command)


def find_signers(open_cluster: OpenCluster) -> Signers:
    """
    Return a sample of each API server that new connections reach.

    A single address may belong to a load balancer, so one address does not limit the number of API servers.

    Raises SidecarError if the cluster denies a request, or a response is not usable.
    """
    found: dict[float, Sample] = {}
    for expected, sample in _samples(open_cluster):
        found[sample.started_at] = sample
        if len(found) >= expected > 1:
            break
    return Signers(tuple(found.values()), expected)


def _samples(open_cluster: OpenCluster) -> Iterator[tuple[int, Sample]]:
    """Yield the number of API servers, and a sample on each new connection."""
    with open_cluster() as cluster:
        expected = _servers_in(cluster.get(ENDPOINTS_PATH))
        yield expected, _sample(cluster)
    for _ in range(SAMPLES_PER_SERVER * max(1, expected - 1)):
        with open_cluster() as cluster:
            yield expected, _sample(cluster)


def _sample(cluster: "Kubernetes") -> Sample:
    return Sample(
        _start_in(cluster.get_raw(METRICS_PATH)),
        read_documents(cluster.get_raw(DISCOVERY_PATH), cluster.get_raw(KEYS_PATH)),
        *_signed_now(cluster),
    )


def _servers_in(document: Any) -> int:
    """
    Return the number of addresses in the EndpointSlice of the API servers.

    Raises SidecarError if there is none, because the number of API servers is then unknown.
    """
    endpoints = document.get("endpoints") if document else None
    number = sum(len(endpoint.get("addresses") or ()) for endpoint in endpoints or ())
    if not number:
        raise SidecarError(
            "The EndpointSlice kubernetes in the namespace default has no address, so the API servers are not known",
            fix="Check --endpoint-reconciler-type of the API servers",
        )
    return number


def _start_in(metrics: bytes | None) -> float:
    match = _STARTED.search(metrics or b"")
    try:
        started_at = float(match[1]) if match else -1.0
    except ValueError:
        started_at = -1.0
    if not 0 <= started_at <= MAX_TIME:
        raise SidecarError(
            "The API server's metrics have no valid process_start_time_seconds",
            fix="Check whether a proxy changes the responses to /metrics",
        )
    return started_at


def _signed_now(cluster: "Kubernetes") -> tuple[str, float]:
    """
    Return the key ID of a new token, and the time at which the API server issued the token.

    Raises KubernetesError if the API server denies the token, or if the token lacks one of them.
    """
    spec = {"audiences": [AUDIENCE], "expirationSeconds": TOKEN_SECONDS}
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "metadata": {}, "spec": spec}
    issued = cluster.create(TOKEN_PATH, request)
    try:
        token = jwt.decode_complete(issued["status"]["token"], options={"verify_signature": False})
        kid, issued_at = token["header"]["kid"], token["payload"].get("iat")
    except (jwt.PyJWTError, KeyError, TypeError):
        kid, issued_at = None, None
    if not isinstance(kid, str) or not kid:
        raise KubernetesError("The API server issued a token without a key ID", fix="Check its signing key") from None
    if isinstance(issued_at, bool) or not isinstance(issued_at, (int, float)) or not 0 <= issued_at <= MAX_TIME:
        raise KubernetesError("The API server issued a token without a valid time", fix="Check its clock") from None
    return kid, float(issued_at)


def longest_token_seconds(cluster: "Kubernetes") -> int:
    """Return the longest lifetime of a projected token in the cluster's Pods, in seconds. It is 0 without such Pods."""
    with reading_objects(PODS_PATH):
        return longest_lifetime(cluster.items(PODS_PATH))


def longest_lifetime(pods: Iterable[Any]) -> int:
    """Return the longest lifetime of a projected token in these Pods, in seconds, or 0."""
    return max((seconds for pod in pods for seconds in _lifetimes(pod)), default=0)


def _lifetimes(pod: Any) -> Iterator[int]:
    for volume in pod.get("spec", {}).get("volumes") or ():
        for source in (volume.get("projected") or {}).get("sources") or ():
            seconds = (source.get("serviceAccountToken") or {}).get("expirationSeconds")
            if isinstance(seconds, int):
                yield seconds
