"""
Reduce the API server's documents to the inventory. Pure.

Rule: names and values that the API server does not check are shortened, because tenants choose them. A document that is
not in the API's form raises KeyError, TypeError, AttributeError or ValueError.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from ipaddress import ip_address, ip_network
from typing import Any

from sidecar.audit.inventory import (
    VALUES_KEPT,
    Container,
    EgressPolicy,
    LabelRequirement,
    Node,
    Pod,
    ServiceAccount,
    TokenVolume,
    Variable,
)
from sidecar.injection.names import ANNOTATIONS, EKS_PREFIX, PREFIX
from sidecar.kubernetes.document import Document

MAX_VALUE_CHARACTERS = 2048
"""Maximum length of a kept value. A longer value is cut. The ARN of a role has at most 600 characters."""

MAX_NAME_CHARACTERS = 253
"""Maximum length of a kept name. The API server checks the names of objects, but not those of owners and variables."""

MAX_ANNOTATIONS = 256
"""Maximum number of annotations of one object that are kept."""

METADATA_ADDRESSES = ("169.254.169.254", "fd00:ec2::254")
"""Addresses of the instance metadata service (EC2 User Guide, Access instance metadata)."""

METADATA_PORT = 80

FINISHED_PHASES = ("Succeeded", "Failed")

_KEPT_VARIABLES = ("AWS_", "IRSA_SIDECAR_")


def service_account(document: Document) -> ServiceAccount:
    metadata = document["metadata"]
    return ServiceAccount(metadata["namespace"], metadata["name"], _annotations(metadata))


def pod(document: Document) -> Pod:
    metadata, spec = document["metadata"], document["spec"]
    return Pod(
        namespace=metadata["namespace"],
        name=metadata["name"],
        service_account=spec.get("serviceAccountName") or "default",
        owner=_owner(metadata),
        labels={str(name): str(value) for name, value in (metadata.get("labels") or {}).items()},
        annotations=_annotations(metadata),
        containers=tuple(_containers(spec)),
        tokens=tuple(_token_volumes(spec.get("volumes") or ())),
        node=spec.get("nodeName") or "",
        created_at=unix_seconds(metadata.get("creationTimestamp")),
        is_on_host_network=bool(spec.get("hostNetwork")),
        is_finished=(document.get("status") or {}).get("phase") in FINISHED_PHASES,
    )


def egress_policy(document: Document) -> EgressPolicy | None:
    """Return the network policy, or None if it does not restrict outgoing traffic."""
    metadata, spec = document["metadata"], document["spec"]
    if "Egress" not in (spec.get("policyTypes") or ()) and not spec.get("egress"):
        return None
    return EgressPolicy(
        namespace=metadata["namespace"],
        name=metadata["name"],
        selector=tuple(_requirements(spec.get("podSelector") or {})),
        allows_metadata=any(_allows_metadata(rule) for rule in spec.get("egress") or ()),
    )


def node(document: Document) -> Node:
    provider_id = str((document.get("spec") or {}).get("providerID") or "")
    is_instance = provider_id.startswith("aws://") and "/i-" in provider_id
    return Node(document["metadata"]["name"], provider_id.rpartition("/")[2] if is_instance else "")


def unix_seconds(timestamp: Any) -> float:
    """Return the time in Unix seconds, or 0 if `timestamp` is missing or is not in the form of RFC 3339."""
    try:
        return datetime.fromisoformat(str(timestamp)).timestamp()
    except (ValueError, OverflowError):
        return 0.0


def _annotations(metadata: Document) -> dict[str, str]:
    """Return the object's annotations. Only those that irsa-sidecar or Amazon's webhook reads keep their values."""
    found = list((metadata.get("annotations") or {}).items())
    read = [(name, value) for name, value in found if _is_read(name)]
    others = [(name, "") for name, _ in found if not _is_read(name)]
    return {name: str(value)[:MAX_VALUE_CHARACTERS] for name, value in (read + others)[:MAX_ANNOTATIONS]}


def _is_read(name: str) -> bool:
    return name in ANNOTATIONS or name.startswith((PREFIX, EKS_PREFIX))


def _name(text: Any) -> str:
    return str(text)[:MAX_NAME_CHARACTERS]


def _owner(metadata: Document) -> str:
    """
    Return the kind and name of the workload, or an empty text if the Pod has no controller.

    The controller of a Deployment's Pods is a ReplicaSet with a hash in its name. The result then names the Deployment.
    """
    controller = next((each for each in metadata.get("ownerReferences") or () if each.get("controller")), None)
    if controller is None:
        return ""
    kind, name = _name(controller["kind"]), _name(controller["name"])
    pod_hash = (metadata.get("labels") or {}).get("pod-template-hash")
    if kind == "ReplicaSet" and pod_hash and name.endswith(f"-{pod_hash}"):
        return f"Deployment {name.removesuffix(f'-{pod_hash}')}"
    return f"{kind} {name}"


def _containers(spec: Document) -> Iterator[Container]:
    for key in ("initContainers", "containers"):
        for document in spec.get(key) or ():
            yield Container(
                name=document["name"],
                image=str(document.get("image") or "")[:MAX_VALUE_CHARACTERS],
                variables=tuple(_variables(document.get("env") or ())),
                secrets=tuple(_secrets(document.get("envFrom") or ())),
                volumes=tuple(mount["name"] for mount in document.get("volumeMounts") or ()),
                is_init=key == "initContainers",
                is_native_sidecar=key == "initContainers" and document.get("restartPolicy") == "Always",
            )


def _variables(documents: Iterable[Document]) -> Iterator[Variable]:
    for document in documents:
        name = _name(document["name"])
        if name.startswith(_KEPT_VARIABLES):
            source = (document.get("valueFrom") or {}).get("secretKeyRef") or {}
            value = document.get("value")
            kept = str(value or "")[:MAX_VALUE_CHARACTERS] if name in VALUES_KEPT else None
            is_empty = not value and not document.get("valueFrom")
            secret = _name(source["name"]) if source.get("name") else None
            yield Variable(name, None if document.get("valueFrom") else kept, secret, is_empty)


def _secrets(documents: Iterable[Document]) -> Iterator[str]:
    for document in documents:
        if name := (document.get("secretRef") or {}).get("name"):
            yield _name(name)


def _token_volumes(volumes: Iterable[Document]) -> Iterator[TokenVolume]:
    """Yield the projected tokens that have an explicit audience."""
    for volume in volumes:
        for source in (volume.get("projected") or {}).get("sources") or ():
            token = source.get("serviceAccountToken") or {}
            if token.get("audience"):
                yield TokenVolume(volume["name"], _name(token["audience"]), int(token.get("expirationSeconds") or 3600))


def _requirements(selector: Document) -> Iterator[LabelRequirement]:
    for key, value in (selector.get("matchLabels") or {}).items():
        yield LabelRequirement(key, "In", (str(value),))
    for each in selector.get("matchExpressions") or ():
        yield LabelRequirement(each["key"], each["operator"], tuple(map(str, each.get("values") or ())))


def _allows_metadata(rule: Document) -> bool:
    """Return whether an egress rule allows the metadata service. A rule without `to` allows every destination."""
    peers, ports = rule.get("to") or (), rule.get("ports") or ()
    is_to = not peers or any(_contains_metadata(peer.get("ipBlock")) for peer in peers)
    return is_to and (not ports or any(_is_metadata_port(port) for port in ports))


def _contains_metadata(block: Mapping[str, Any] | None) -> bool:
    """Return whether the block contains an address of the metadata service that `except` does not exclude."""
    if not block:
        return False  # a Pod or namespace selector never matches the metadata service
    excluded = [ip_network(each, strict=False) for each in block.get("except") or ()]
    network = ip_network(block["cidr"], strict=False)
    addresses = [ip_address(each) for each in METADATA_ADDRESSES]
    return any(address in network and not any(address in each for each in excluded) for address in addresses)


def _is_metadata_port(port: Document) -> bool:
    if port.get("protocol", "TCP") != "TCP":
        return False
    first = port.get("port")
    if first is None:
        return True
    if isinstance(first, str):
        return False  # a named port is a port of a container, and the metadata service does not run in a container
    return bool(first <= METADATA_PORT <= (port.get("endPort") or first))
