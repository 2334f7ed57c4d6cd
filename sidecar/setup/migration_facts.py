"""Read the facts of a migration: the ServiceAccounts and workloads of a namespace, their associations and roles."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from sidecar.errors import SidecarError
from sidecar.injection.eks_webhook import POD_IDENTITY
from sidecar.injection.names import CONTAINER, INJECT_LABEL
from sidecar.kubernetes.document import reading_objects
from sidecar.kubernetes.names import path_segment
from sidecar.setup.aws_error import AwsError
from sidecar.setup.migration import ServiceAccount, Source, Workload, role_name, roles_of
from sidecar.setup.read_role import read_role
from sidecar.setup.resources import IamRole

if TYPE_CHECKING:
    from sidecar.kubernetes.client import Kubernetes
    from sidecar.setup.aws import Aws


class _WorkloadKind(NamedTuple):
    """A kind of workload: its API, its plural, and the pointer of its Pod template."""

    name: str
    api: str
    plural: str
    template: str


_WORKLOADS = (
    _WorkloadKind("Deployment", "/apis/apps/v1", "deployments", "/spec/template"),
    _WorkloadKind("StatefulSet", "/apis/apps/v1", "statefulsets", "/spec/template"),
    _WorkloadKind("DaemonSet", "/apis/apps/v1", "daemonsets", "/spec/template"),
    _WorkloadKind("CronJob", "/apis/batch/v1", "cronjobs", "/spec/jobTemplate/spec/template"),
)

INJECTORS = ("mutatingwebhookconfigurations", "mutatingadmissionpolicies")
"""The kinds of objects that add sidecars."""


def read_service_accounts(
    kubernetes: "Kubernetes", namespace: str, associations: Mapping[str, Mapping[str, Any]]
) -> tuple[ServiceAccount, ...]:
    """Return the namespace's ServiceAccounts with their workloads. `associations` are by the ServiceAccount's name."""
    collection = f"/api/v1/namespaces/{namespace}/serviceaccounts"
    workloads = [*_workloads(kubernetes, namespace)]
    with reading_objects(collection):
        return tuple(
            ServiceAccount(
                namespace,
                name,
                found["metadata"].get("annotations") or {},
                tuple(workload for workload in workloads if workload.service_account == name),
                associations.get(name),
            )
            for found in kubernetes.items(collection)
            if (name := path_segment(found["metadata"]["name"]))
        )


def _workloads(kubernetes: "Kubernetes", namespace: str) -> Iterator[Workload]:
    for kind in _WORKLOADS:
        collection = f"{kind.api}/namespaces/{namespace}/{kind.plural}"
        for found in kubernetes.items(collection):
            with reading_objects(collection):
                yield _workload(kind, collection, namespace, found)


def _workload(kind: _WorkloadKind, collection: str, namespace: str, found: Mapping[str, Any]) -> Workload:
    name, template = path_segment(found["metadata"]["name"]), found
    for part in kind.template[1:].split("/"):
        template = template.get(part) or {}
    metadata, spec = template.get("metadata") or {}, template.get("spec") or {}
    return Workload(
        f"{kind.name} {namespace}/{name}",
        f"{collection}/{name}",
        f"{kind.template}/metadata",
        spec.get("serviceAccountName") or spec.get("serviceAccount") or "default",
        metadata.get("labels") or {},
        metadata.get("annotations") or {},
    )


def read_associations(aws: "Aws", cluster: str, namespace: str) -> dict[str, Mapping[str, Any]]:
    """Return the parameters of the namespace's associations, as CreatePodIdentityAssociation accepts them."""
    listed = aws.call("eks", "ListPodIdentityAssociations", clusterName=cluster, namespace=namespace)["associations"]
    return {each["serviceAccount"]: _association(aws, cluster, each["associationId"]) for each in listed}


def read_association(aws: "Aws", cluster: str, service_account: str) -> tuple[Mapping[str, Any] | None, str]:
    """Return the parameters and the ID of the association of a ServiceAccount, or None if it has none."""
    namespace, _, name = service_account.partition("/")
    place = {"clusterName": cluster, "namespace": namespace, "serviceAccount": name}
    listed = aws.call("eks", "ListPodIdentityAssociations", **place)["associations"]
    for each in listed:
        return _association(aws, cluster, each["associationId"]), each["associationId"]
    return None, ""


_PARAMETERS = ("roleArn", "targetRoleArn", "disableSessionTags", "policy", "tags")
"""The parameters of CreatePodIdentityAssociation that a person can choose (EKS API reference)."""


def _association(aws: "Aws", cluster: str, association_id: str) -> Mapping[str, Any]:
    """Return the parameters of an association. AWS sets tags that begin with aws:, and rejects them in a request."""
    response = aws.call("eks", "DescribePodIdentityAssociation", clusterName=cluster, associationId=association_id)
    found = response["association"]
    tags = {key: value for key, value in found.get("tags", {}).items() if not key.lower().startswith("aws:")}
    return {name: value for name in _PARAMETERS if (value := {**found, "tags": tags}.get(name))}


def read_roles(aws: "Aws", service_accounts: Iterable[ServiceAccount], source: Source) -> dict[str, IamRole | str]:
    """
    Return the roles of the ServiceAccounts by name, without those that do not exist.

    For a role that these credentials may not read, the value is the reason.
    """
    names = {role_name(role) for service_account in service_accounts for role in roles_of(service_account, source)}
    possible = sorted(name for name in names if _ROLE_NAME.fullmatch(name))
    return {name: role for name in possible if (role := _readable_role(aws, name)) is not None}


def _readable_role(aws: "Aws", name: str) -> IamRole | str | None:
    try:
        return read_role(aws, name)
    except AwsError as exc:
        if not exc.code.startswith("AccessDenied"):
            raise
        return str(exc)


_ROLE_NAME = re.compile(r"[\w+=,.@-]{1,64}", re.ASCII)
"""Pattern for the name of a role (IAM API reference, GetRole). IAM rejects a request with another name."""


def check_injector(kubernetes: "Kubernetes") -> None:
    """Raise SidecarError if the cluster has neither our webhook nor our policies, because nothing would be injected."""
    for kind in INJECTORS:
        for found in _if_served(kubernetes, f"/apis/admissionregistration.k8s.io/v1/{kind}"):
            if INJECT_LABEL in str(found):
                return
    raise SidecarError(
        f"The cluster has no webhook and no policies for the label {INJECT_LABEL}",
        fix="Install one of them first (docs/install.md, docs/policy.md)",
    )


def _if_served(kubernetes: "Kubernetes", path: str) -> Iterable[Any]:
    """Return the items of a collection, or none if the API server has no such collection."""
    return [] if kubernetes.get_raw(f"{path}?limit=1") is None else kubernetes.items(path)


def running_pods(
    kubernetes: "Kubernetes", namespace: str, names: Iterable[str], is_wanted: Callable[[Any], bool]
) -> tuple[str, ...]:
    """Return the names of the running Pods that use one of these ServiceAccounts, and whose spec is wanted."""
    accounts, collection = {*names}, f"/api/v1/namespaces/{namespace}/pods"
    with reading_objects(collection):
        return tuple(
            pod["metadata"]["name"]
            for pod in kubernetes.items(collection)
            if pod["spec"].get("serviceAccountName") in accounts
            and (pod.get("status") or {}).get("phase") not in _ENDED
            and is_wanted(pod["spec"])
        )


_ENDED = ("Succeeded", "Failed")
"""The phases of Pods whose containers do not run any more (Kubernetes, Pod lifecycle)."""


def has_sidecar(spec: Mapping[str, Any]) -> bool:
    containers = [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]
    return any(container.get("name") == CONTAINER for container in containers)


def lacks_sidecar(spec: Mapping[str, Any]) -> bool:
    return not has_sidecar(spec)


def has_pod_identity(spec: Mapping[str, Any]) -> bool:
    """Return whether Amazon's webhook added the token for EKS Pod Identity."""
    return any(volume.get("name") == POD_IDENTITY[0] for volume in spec.get("volumes") or ())
