"""
Find applications that hold tokens or keys that they do not need, or that can reach the node's role. Pure.

Rule: the metadata service counts as reachable only if the instance's options are known. The hop limit and network
policies protect only a Pod that is not on the host network.
"""

import re
from collections.abc import Iterator

from sidecar.audit.finding import Problem, Rule, Severity, Subject
from sidecar.audit.inventory import Container, EgressPolicy, LabelRequirement, Pod
from sidecar.audit.relations import Identity, Relations, applications_of, identities_of
from sidecar.audit.workloads import listed, workloads

POD_HOPS = 2
"""Network hops between the metadata service and a Pod that is not on the host network (EKS best practices guide)."""

_KEY_VARIABLES = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")

_KEY_SECRET = re.compile(r"aws|iam", re.IGNORECASE), re.compile(r"key|cred|secret|access", re.IGNORECASE)
"""Patterns for the name of a Secret that probably holds AWS keys. Both must match a part of the name."""

_SDK_VARIABLES = ("AWS_REGION", "AWS_DEFAULT_REGION")
"""Variables that a person sets for an application with an AWS SDK."""


def _token_in_application(relations: Relations) -> Iterator[Problem]:
    holding = (pod for pod in relations.running_pods if _has(pod, Identity.WEB_IDENTITY))
    for workload in workloads(holding):
        yield Problem(
            workload.subject,
            workload.problem("the application holds the service account token for AWS"),
            "Use the sidecar, which keeps the token away from the application (docs/migrate.md)",
        )


def _has(pod: Pod, identity: Identity) -> bool:
    return any(identity in identities_of(pod, container) for container in applications_of(pod))


def _metadata(relations: Relations) -> Iterator[Problem]:
    reaching = (pod for pod in relations.running_pods if not pod.is_on_host_network)
    for workload in workloads(pod for pod in reaching if reaches_metadata(relations, pod)):
        yield Problem(
            workload.subject,
            workload.problem("can reach the instance metadata service, and with it the node's role"),
            "Set HttpPutResponseHopLimit to 1 and HttpTokens to required on the nodes' instances, or apply "
            "k8s/network-policy.yaml",
        )


def _host_network(relations: Relations) -> Iterator[Problem]:
    on_host = (pod for pod in relations.running_pods if pod.is_on_host_network)
    for workload in workloads(pod for pod in on_host if reaches_metadata(relations, pod)):
        yield Problem(
            workload.subject,
            workload.problem("uses the host network and can reach the instance metadata service"),
            "Remove hostNetwork if the application does not need it",
        )


def reaches_metadata(relations: Relations, pod: Pod) -> bool:
    """Return whether the Pod is known to reach the metadata service of its node's instance."""
    instance = relations.instance_of(pod)
    if instance is None or not instance.is_metadata_on:
        return False
    if pod.is_on_host_network:
        return True
    is_near = instance.hop_limit >= POD_HOPS or not instance.is_token_required
    return is_near and not _is_isolated(relations, pod)


def _is_isolated(relations: Relations, pod: Pod) -> bool:
    """Return whether network policies select the Pod, and none of them allows the metadata service."""
    selecting = [each for each in relations.egress_policies_of(pod.namespace) if _selects(each, pod)]
    return bool(selecting) and not any(each.allows_metadata for each in selecting)


def _selects(policy: EgressPolicy, pod: Pod) -> bool:
    return all(_is_met(each, pod.labels) for each in policy.selector)


def _is_met(requirement: LabelRequirement, labels: dict[str, str]) -> bool:
    match requirement.operator:
        case "In":
            return labels.get(requirement.key) in requirement.values
        case "NotIn":
            return labels.get(requirement.key) not in requirement.values
        case "Exists":
            return requirement.key in labels
        case _:
            return requirement.key not in labels


def _node_role(relations: Relations) -> Iterator[Problem]:
    using = (pod for pod in relations.running_pods if _uses_node_role(relations, pod))
    for workload in workloads(using):
        yield Problem(
            workload.subject,
            workload.problem("sets a region for an SDK but has no identity, so the SDK uses the node's role"),
            f"Create a role for ServiceAccount {workload.pods[0].service_account}: irsa-sidecar setup role NAME "
            f"--service-account {workload.pods[0].namespace}/{workload.pods[0].service_account}",
        )


def _uses_node_role(relations: Relations, pod: Pod) -> bool:
    if any(identities_of(pod, container) for container in pod.containers) or not reaches_metadata(relations, pod):
        return False
    return any(variable.name in _SDK_VARIABLES for container in pod.containers for variable in container.variables)


def _static_keys(relations: Relations) -> Iterator[Problem]:
    for workload in workloads(pod for pod in relations.running_pods if _key_sources(pod)):
        yield Problem(
            workload.subject,
            workload.problem(f"gets static AWS keys from {listed(_key_sources(workload.pods[0]))}"),
            "Create a role for the ServiceAccount (irsa-sidecar setup role), then delete the keys",
        )


def _key_sources(pod: Pod) -> list[str]:
    return list(dict.fromkeys(source for container in pod.containers for source in _sources_in(container)))


def _sources_in(container: Container) -> Iterator[str]:
    for variable in container.variables:
        if variable.name in _KEY_VARIABLES and not variable.is_empty:
            where = f"Secret {variable.secret}" if variable.secret else f"variable {variable.name}"
            yield f"{where} of container {container.name}"
    for secret in container.secrets:
        if all(pattern.search(secret) for pattern in _KEY_SECRET):
            yield f"Secret {secret} of container {container.name} (the Secret's name suggests AWS keys)"


def _two_identities(relations: Relations) -> Iterator[Problem]:
    for key, role_arn in relations.annotated.items():
        other = relations.associated.get(key)
        if other is not None:
            yield Problem(
                Subject("ServiceAccount", key[1], key[0]),
                f"it has the annotation for role {role_arn} and an EKS Pod Identity association with role "
                f"{other or 'unknown'}. SDKs differ in which one they use",
                "Remove the annotation or the association",
            )


def _two_sources(relations: Relations) -> Iterator[Problem]:
    for workload in workloads(pod for pod in relations.running_pods if _mixed(pod)):
        names = ", ".join(sorted(identity.value for identity in _mixed(workload.pods[0])))
        yield Problem(
            workload.subject,
            workload.problem(f"a container has several sources of credentials: {names}. SDKs differ in their order"),
            "Remove all sources except one",
        )


def _mixed(pod: Pod) -> frozenset[Identity]:
    found = (identities_of(pod, container) for container in applications_of(pod))
    return next((identities for identities in found if len(identities) > 1), frozenset())


RULES = (
    Rule(
        "exposed.token",
        Severity.NOTE,
        "an application holds the service account token for AWS",
        "A program that reads the token can exchange it anywhere until it expires, up to 24 hours later.",
        _token_in_application,
    ),
    Rule(
        "exposed.metadata",
        Severity.WARNING,
        "Pods can reach the instance metadata service",
        "A Pod that reaches the metadata service can use the node's role, which often can read every image and change "
        "network interfaces.",
        _metadata,
    ),
    Rule(
        "exposed.host-network",
        Severity.NOTE,
        "Pods on the host network can reach the instance metadata service",
        "Neither HttpPutResponseHopLimit nor a network policy protects the metadata service from a Pod on the host "
        "network.",
        _host_network,
    ),
    Rule(
        "exposed.node-role",
        Severity.WARNING,
        "an application with an AWS SDK uses the node's role",
        "All Pods on the node share the node's role, so each Pod has the permissions that the others need.",
        _node_role,
    ),
    Rule(
        "exposed.static-keys",
        Severity.WARNING,
        "an application gets static AWS keys",
        "Static keys do not expire, and everybody who can read the Pod or the Secret can use them anywhere.",
        _static_keys,
    ),
    Rule(
        "exposed.two-identities",
        Severity.WARNING,
        "a ServiceAccount has IRSA and EKS Pod Identity",
        "Amazon's webhook and the SDKs each choose one of the two. The role therefore depends on their versions.",
        _two_identities,
    ),
    Rule(
        "exposed.two-sources",
        Severity.WARNING,
        "a container has several sources of credentials",
        "Each SDK has its own order of sources, so an update of the SDK can change the role.",
        _two_sources,
    ),
)
