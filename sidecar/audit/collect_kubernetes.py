"""
Read the cluster's objects through the API server.

Rule: all kinds are read at the same time, page by page. Only the reduced objects stay in memory. A kind that cannot
be read becomes a problem in the inventory, and the other kinds are read anyway.
"""

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import trio

from sidecar.audit import kubernetes_kept
from sidecar.audit.inventory import (
    ISSUER,
    NETWORK_POLICIES,
    NODES,
    PODS,
    SERVICE_ACCOUNTS,
    Cluster,
    Problem,
)
from sidecar.errors import KubernetesError, SidecarError
from sidecar.kubernetes.document import Document
from sidecar.setup.issuer_checks import DISCOVERY_PATH

if TYPE_CHECKING:
    from sidecar.kubernetes.client import Kubernetes

PROGRESS_ITEMS = 500
"""Number of items after which the progress is shown again."""

Progress = Callable[[str], None]
"""A function that shows a text such as `1,500 Kubernetes Pods`."""


class Kind(NamedTuple):
    """A kind of object to read. `keep` reduces one document, and its results are stored in `field` of Cluster."""

    part: str
    field: str
    path: str
    keep: Callable[[Document], Any]


KINDS = (
    Kind(SERVICE_ACCOUNTS, "service_accounts", "/api/v1/serviceaccounts", kubernetes_kept.service_account),
    Kind(PODS, "pods", "/api/v1/pods", kubernetes_kept.pod),
    Kind(NODES, "nodes", "/api/v1/nodes", kubernetes_kept.node),
    Kind(
        NETWORK_POLICIES,
        "egress_policies",
        "/apis/networking.k8s.io/v1/networkpolicies",
        kubernetes_kept.egress_policy,
    ),
)
"""The kinds that an audit reads. k8s/audit grants `list` for each of them."""


async def read_cluster(kubernetes: "Kubernetes", name: str, now: float, progress: Progress) -> Cluster:
    """Return the cluster's objects. `name` is the EKS cluster's name or empty. Errors become problems."""
    fields: dict[str, Any] = {}
    problems: list[Problem] = []

    async def read(part: str, field: str, call: Callable[[], Any]) -> None:
        try:
            fields[field] = await trio.to_thread.run_sync(call, abandon_on_cancel=True)
        except SidecarError as error:
            problems.append(Problem(part, error.problem, error.fix))

    async with trio.open_nursery() as nursery:
        for kind in KINDS:
            nursery.start_soon(read, kind.part, kind.field, _listing(kubernetes, kind, progress))
        nursery.start_soon(read, ISSUER, "issuer", lambda: _issuer(kubernetes))
    problems.sort(key=lambda problem: problem.part)
    return Cluster(read_at=now, context=kubernetes.context or "", name=name, problems=tuple(problems), **fields)


def _listing(kubernetes: "Kubernetes", kind: Kind, progress: Progress) -> Callable[[], tuple[Any, ...]]:
    def read_all() -> tuple[Any, ...]:
        kept: list[Any] = []
        for document in kubernetes.items(kind.path):
            kept.append(_reduced(kind, document))
            if len(kept) % PROGRESS_ITEMS == 0:
                progress(f"{len(kept):,} {kind.part}")
        progress(f"{len(kept):,} {kind.part}")
        return tuple(each for each in kept if each is not None)

    return read_all


def _reduced(kind: Kind, document: Document) -> Any:
    try:
        return kind.keep(document)
    except (KeyError, TypeError, AttributeError, ValueError) as exc:
        raise KubernetesError(
            f"The API server's response to {kind.path} has an object in an unknown form ({type(exc).__name__})",
            fix="Check HTTPS_PROXY and the server of the kubeconfig",
        ) from exc


def _issuer(kubernetes: "Kubernetes") -> str:
    body = kubernetes.get_raw(DISCOVERY_PATH)
    try:
        return str(json.loads(body or b"")["issuer"])
    except (ValueError, TypeError, KeyError, RecursionError) as exc:
        raise KubernetesError(
            f"The API server of context {kubernetes.context} publishes no discovery document", fix="Set --issuer"
        ) from exc
