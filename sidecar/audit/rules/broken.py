"""
Find ServiceAccounts and Pods whose applications get no credentials, or will get none after a restart. Pure.

Rule: a role in another account, and a decision that depends on an unknown condition, are not findings.
"""

from collections.abc import Iterator

from sidecar.audit.finding import Problem, Rule, Severity, Subject
from sidecar.audit.inventory import ASSOCIATIONS, PROVIDERS, ROLES, Pod
from sidecar.audit.relations import (
    Identity,
    Key,
    Relations,
    applications_of,
    identities_of,
    role_in_use,
    sidecar_of,
    token_of,
)
from sidecar.audit.workloads import counted, listed, workloads
from sidecar.errors import ConfigurationError
from sidecar.injection.known_names import check_names, misnamed_label
from sidecar.injection.names import EKS_ROLE_ARN, INJECT_LABEL, INJECT_TRUE, ROLE_ARN
from sidecar.injection.names import ROLES as ROLES_ANNOTATION
from sidecar.injection.similar_names import nearest
from sidecar.role import parse_role_arn


def _provider_missing(relations: Relations) -> Iterator[Problem]:
    users = _users_of_this_account(relations)
    if relations.is_read(PROVIDERS) and relations.cluster.issuer and users and relations.provider is None:
        yield Problem(
            Subject("OidcProvider", relations.provider_arn),
            f"account {relations.account.account_id} has no OIDC provider for the issuer {relations.cluster.issuer} "
            f"of {counted(len(users), 'ServiceAccount')}: {listed(users)}",
            f"Create the provider: irsa-sidecar setup oidc-provider --issuer {relations.cluster.issuer}",
        )


def _users_of_this_account(relations: Relations) -> list[str]:
    return [
        f"{namespace}/{name}"
        for (namespace, name), role_arn in relations.annotated.items()
        if relations.is_of_this_account(role_arn)
    ]


def _provider_audience(relations: Relations) -> Iterator[Problem]:
    provider = relations.provider
    if provider is None or not provider.is_detailed:
        return
    users: dict[str, list[str]] = {}
    for key, role_arn in relations.annotated.items():
        if relations.is_of_this_account(role_arn):
            users.setdefault(token_of(relations.service_accounts[key]).audience, []).append("/".join(key))
    for audience, names in users.items():
        if audience not in provider.client_ids:
            yield Problem(
                Subject("OidcProvider", provider.arn),
                f"the provider does not accept the audience {audience} of {listed(names)}. It accepts "
                f"{listed(provider.client_ids) or 'no audience'}",
                f"Add {audience} to the provider's client IDs: irsa-sidecar setup oidc-provider",
            )


def _provider_thumbprint(relations: Relations) -> Iterator[Problem]:
    provider, wanted = relations.provider, relations.cluster.issuer_thumbprint
    if provider is not None and provider.is_detailed and wanted and wanted not in provider.thumbprints:
        yield Problem(
            Subject("OidcProvider", provider.arn),
            f"no public authority issued the certificate of {relations.cluster.issuer}, and the provider does not have "
            "the certificate's thumbprint",
            f"Add the thumbprint {wanted} to the provider: irsa-sidecar setup oidc-provider --ca-file",
        )


def _role_arn(relations: Relations) -> Iterator[Problem]:
    for key, role_arn in relations.annotated.items():
        try:
            parse_role_arn(f"annotation {EKS_ROLE_ARN}", role_arn)
        except ConfigurationError as error:
            yield Problem(Subject("ServiceAccount", key[1], key[0]), error.problem, error.fix)


def _role_missing(relations: Relations) -> Iterator[Problem]:
    if not relations.is_read(ROLES):
        return
    for key, role_arn in relations.annotated.items():
        if relations.is_of_this_account(role_arn) and role_arn not in relations.roles:
            yield Problem(
                Subject("ServiceAccount", key[1], key[0]),
                f"its role {role_arn} does not exist",
                "Create the role, or correct the annotation",
            )


def _trust(relations: Relations) -> Iterator[Problem]:
    if not relations.cluster.issuer:
        return
    for key, role_arn in relations.annotated.items():
        if role_arn not in relations.roles:
            continue
        token = token_of(relations.service_accounts[key])
        decision = relations.decide(role_arn, token)
        if not decision.is_allowed and not decision.unknown:
            yield Problem(
                Subject("ServiceAccount", key[1], key[0]),
                f"the trust policy of {role_arn} does not accept sub {token.subject} with aud {token.audience}: "
                f"{decision.reason}",
                _trust_fix(relations, role_arn, key),
            )


def _trust_fix(relations: Relations, role_arn: str, key: Key) -> str:
    if relations.is_denied(role_arn, token_of(relations.service_accounts[key])):
        return "If the ServiceAccount may use the role, change the statement that denies it"
    name = relations.roles[role_arn].name
    command = f"irsa-sidecar setup role {name} --service-account {key[0]}/{key[1]}"
    return f"If the ServiceAccount may use the role, add it to the trust policy: {command}"


def _association_role(relations: Relations) -> Iterator[Problem]:
    if not relations.is_read(ROLES) or not relations.is_read(ASSOCIATIONS):
        return
    for each in relations.account.associations:
        if each.role_arn and relations.is_of_this_account(each.role_arn) and each.role_arn not in relations.roles:
            yield Problem(
                Subject("PodIdentityAssociation", each.association_id),
                f"the association of ServiceAccount {each.namespace}/{each.service_account} names the role "
                f"{each.role_arn}, which does not exist",
                "Create the role, or change or delete the association",
            )


def _misspelt_annotation(relations: Relations) -> Iterator[Problem]:
    for key, account in relations.service_accounts.items():
        found = None if EKS_ROLE_ARN in account.annotations else nearest(account.annotations, EKS_ROLE_ARN)
        if found:
            yield Problem(
                Subject("ServiceAccount", key[1], key[0]),
                f"its annotation {found.name} is not read",
                f"Rename the annotation to {found.meant}",
            )


def _misspelt_on_pod(relations: Relations) -> Iterator[Problem]:
    for workload in workloads(relations.running_pods):
        found = [misnamed for pod in workload.pods if (misnamed := _misnamed(pod))]
        if found:
            problem, fix = found[0]
            yield Problem(workload.subject, problem, fix or "Correct the name")


def _misnamed(pod: Pod) -> tuple[str, str] | None:
    """Return the problem and the fix of a label or annotation without effect, or None."""
    if INJECT_LABEL not in pod.labels and (found := misnamed_label(pod.labels)):
        return f"the label {found.name} is not read", f"Rename the label to {found.meant}"
    try:
        check_names({"annotations": pod.annotations, "labels": pod.labels})
    except ConfigurationError as error:
        return error.problem, error.fix
    return None


def _stale_pod(relations: Relations) -> Iterator[Problem]:
    """Find Pods whose role differs from the annotation. Injection reads the annotation only for a new Pod."""
    stale = [pod for pod in relations.running_pods if _current_role(relations, pod) not in {None, role_in_use(pod)}]
    for workload in workloads(pod for pod in stale if role_in_use(pod)):
        pod = workload.pods[0]
        yield Problem(
            workload.subject,
            workload.problem(
                f"uses the role {role_in_use(pod)}, but the annotation now names {_current_role(relations, pod)}"
            ),
            workload.restart,
        )


def _current_role(relations: Relations, pod: Pod) -> str | None:
    """Return the role that a new Pod of this workload would get, or None if it is not known."""
    if ROLES_ANNOTATION in pod.annotations:
        return None
    if sidecar_of(pod) and ROLE_ARN in pod.annotations:
        return pod.annotations[ROLE_ARN]
    return relations.annotated.get((pod.namespace, pod.service_account))


def _not_injected(relations: Relations) -> Iterator[Problem]:
    wanting = (pod for pod in relations.running_pods if pod.labels.get(INJECT_LABEL) == INJECT_TRUE)
    for workload in workloads(pod for pod in wanting if sidecar_of(pod) is None):
        yield Problem(
            workload.subject,
            workload.problem(f"has the label {INJECT_LABEL} but no sidecar"),
            f"Check that the webhook or the policy is installed in this cluster. {workload.restart}",
        )


def _no_identity(relations: Relations) -> Iterator[Problem]:
    """
    Find Pods without an identity for AWS although their ServiceAccount names a role.

    `_not_injected` covers Pods that request the sidecar.
    """
    lacking = [pod for pod in relations.running_pods if _lacks_identity(relations, pod)]
    for workload in workloads(lacking):
        role_arn = relations.annotated[workload.pods[0].namespace, workload.pods[0].service_account]
        yield Problem(
            workload.subject,
            workload.problem(
                f"has no identity, but its ServiceAccount names the role {role_arn}. The application uses the node's "
                "role, or has no credentials"
            ),
            f"{workload.restart}. If this finding remains, check that the webhook is installed",
        )


def _lacks_identity(relations: Relations, pod: Pod) -> bool:
    key = (pod.namespace, pod.service_account)
    if key not in relations.annotated or pod.labels.get(INJECT_LABEL) == INJECT_TRUE or key in relations.associated:
        return False
    return not any(identities_of(pod, container) - {Identity.STATIC_KEYS} for container in applications_of(pod))


RULES = (
    Rule(
        "broken.provider-missing",
        Severity.ERROR,
        "the account has no OIDC provider for the cluster's issuer",
        "STS rejects every token of an issuer for which the role's account has no OIDC provider.",
        _provider_missing,
    ),
    Rule(
        "broken.provider-audience",
        Severity.ERROR,
        "the OIDC provider does not accept the tokens' audience",
        "STS rejects a token whose audience is not among the client IDs of the OIDC provider.",
        _provider_audience,
    ),
    Rule(
        "broken.provider-thumbprint",
        Severity.ERROR,
        "the OIDC provider has no thumbprint of the issuer's certificate",
        "If no public authority issued the issuer's certificate, STS compares the certificate with the provider's "
        "thumbprints, and rejects the token if none matches. The audit computes a thumbprint only if the authority in "
        "`--ca-file` verifies the certificate. Without `--ca-file`, the audit reports that the certificate is unread.",
        _provider_thumbprint,
    ),
    Rule(
        "broken.role-arn",
        Severity.ERROR,
        "the annotation of a ServiceAccount is not the ARN of a role",
        "The webhooks reject or ignore a value that is not the ARN of a role.",
        _role_arn,
    ),
    Rule(
        "broken.role-missing",
        Severity.ERROR,
        "the role of a ServiceAccount does not exist",
        "STS rejects the exchange for a role that does not exist. The credentials of a deleted role stop working.",
        _role_missing,
    ),
    Rule(
        "broken.trust",
        Severity.ERROR,
        "the trust policy of a role rejects its ServiceAccount",
        "STS rejects the exchange unless a statement of the role's trust policy accepts the token's `sub` and `aud`.",
        _trust,
    ),
    Rule(
        "broken.association-role",
        Severity.ERROR,
        "the role of an EKS Pod Identity association does not exist",
        "EKS keeps an association whose role was deleted. The Pods of its ServiceAccount get no credentials.",
        _association_role,
    ),
    Rule(
        "broken.misspelt-annotation",
        Severity.ERROR,
        "a ServiceAccount has an annotation that looks like the one for the role",
        "A misspelt annotation has no effect and causes no error. The ServiceAccount's Pods use the node's role.",
        _misspelt_annotation,
    ),
    Rule(
        "broken.misspelt-on-pod",
        Severity.ERROR,
        "a Pod has a label or an annotation that looks like one of irsa-sidecar",
        "Without the webhook, a misspelt label or annotation causes no error. With a misspelt label, the Pod starts "
        "without the sidecar.",
        _misspelt_on_pod,
    ),
    Rule(
        "broken.stale-pod",
        Severity.ERROR,
        "Pods use a different role from the one in the annotation",
        "The webhooks read the annotation when the Pod is created. A later change affects only new Pods.",
        _stale_pod,
    ),
    Rule(
        "broken.not-injected",
        Severity.ERROR,
        "Pods request the sidecar but do not have it",
        "Pods that were created while no webhook or policy was installed have no sidecar.",
        _not_injected,
    ),
    Rule(
        "broken.no-identity",
        Severity.ERROR,
        "Pods of a ServiceAccount with a role have no identity",
        "A Pod that is older than the annotation, or that was created without the webhook, has no token for AWS. "
        "Its SDK uses the node's role if the metadata service is reachable.",
        _no_identity,
    ),
)
