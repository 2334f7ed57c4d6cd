"""
Describe a cluster of more than forty ServiceAccounts, each of which is right or wrong in one way.

Each case has its own namespace with the name of the case. `rules` are the rules that must find something there or
at the roles of the case. An empty `rules` means that the case is right and that no rule may find anything.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from sidecar.injection.names import INJECT_LABEL, ROLE_ARN
from tests.unit.audit.documents import (
    FAR_NODE,
    OTHER_PROVIDER_ARN,
    Document,
    container,
    irsa_container,
    network_policy,
    pod,
    role,
    role_arn,
    service_account,
    sidecar_pod,
    statement,
    subject,
)


class Parts(NamedTuple):
    """The objects of one case: documents of the API server, and responses of AWS."""

    objects: tuple[Document, ...] = ()
    roles: tuple[Document, ...] = ()
    associations: tuple[Document, ...] = ()


class Case(NamedTuple):
    """A case, the rules that find it, and its objects. `is_old` is true if AWS must report dates in the past."""

    name: str
    rules: frozenset[str]
    parts: Parts
    is_old: bool = False


def _right_role(name: str, **fields: Any) -> Document:
    return role(name, statement(subject(name)), **fields)


def _with_sidecar(name: str, *roles: Document, account: Document | None = None, **fields: Any) -> Parts:
    """Return a ServiceAccount with a role and a Pod with a sidecar. If there is a problem, it is in `roles`."""
    arn = role_arn(name)
    return Parts((account or service_account(name, role=arn), sidecar_pod(name, arn, **fields)), roles)


def _application(name: str, *containers: Document, **fields: Any) -> Parts:
    """Return a ServiceAccount without a role, and its Pod."""
    return Parts((service_account(name), pod(name, *containers, **fields)))


def _association(name: str, arn: str) -> Document:
    return {"namespace": name, "serviceAccount": "app", "associationId": f"a-{name}", "roleArn": arn}


def _pod_identity_container() -> Document:
    mount = {"name": "eks-pod-identity-token", "mountPath": "/var/run/secrets/pods.eks.amazonaws.com"}
    changed = container(AWS_CONTAINER_CREDENTIALS_FULL_URI="http://169.254.170.23/v1/credentials")
    return changed | {"volumeMounts": [mount]}


_Build = Callable[[str], Parts]


def _case(name: str, build: _Build, *rules: str, is_old: bool = False) -> Case:
    return Case(name, frozenset(rules), build(name), is_old)


_SECRET_KEY = {"secretKeyRef": {"name": "aws-keys", "key": "id"}}

RIGHT = (
    _case("right-sidecar", lambda n: _with_sidecar(n, _right_role(n))),
    _case(
        "right-own-audience",
        lambda n: _with_sidecar(
            n,
            role(n, statement(subject(n), aud="aws.example")),
            account=service_account(n, role=role_arn(n), **{"eks.amazonaws.com__audience": "aws.example"}),
        ),
    ),
    _case("right-list-of-subjects", lambda n: _with_sidecar(n, role(n, statement([subject(n), subject("elsewhere")])))),
    _case(
        "right-like-without-wildcard", lambda n: _with_sidecar(n, role(n, statement(subject(n), operator="StringLike")))
    ),
    _case(
        "right-second-statement",
        lambda n: _with_sidecar(n, role(n, statement(subject("elsewhere")), statement(subject(n)))),
    ),
    _case(
        "right-role-of-the-pod",
        lambda n: Parts(
            (service_account(n), sidecar_pod(n, role_arn(n), annotations={ROLE_ARN: role_arn(n)})), (_right_role(n),)
        ),
    ),
    _case(
        "right-other-account",
        lambda n: Parts(
            (service_account(n, role=role_arn(n, "999988887777")), sidecar_pod(n, role_arn(n, "999988887777")))
        ),
    ),
    _case(
        "right-pod-identity",
        lambda n: Parts(
            (service_account(n), pod(n, _pod_identity_container())),
            (
                role(
                    n,
                    {"Effect": "Allow", "Principal": {"Service": "pods.eks.amazonaws.com"}, "Action": "sts:AssumeRole"},
                ),
            ),
            (_association(n, role_arn(n)),),
        ),
    ),
    _case("right-no-aws", _application),
    _case(
        "right-finished-job",
        lambda n: Parts(
            (
                service_account(n),
                pod(n, container(AWS_ACCESS_KEY_ID="AKIA")) | {"status": {"phase": "Succeeded"}},
            )
        ),
    ),
    _case(
        "right-isolated-on-far-node",
        lambda n: Parts(
            (
                service_account(n),
                pod(n, nodeName=FAR_NODE),
                network_policy(n, {"to": [{"podSelector": {}}]}),
            )
        ),
    ),
    _case("right-empty-keys", lambda n: _application(n, container(AWS_ACCESS_KEY_ID=""))),
    _case("right-boundary", lambda n: _with_sidecar(n, _right_role(n))),
)

WRONG = (
    _case(
        "role-arn",
        lambda n: Parts((service_account(n, role="role/app"), sidecar_pod(n, "role/app"))),
        "broken.role-arn",
    ),
    _case("role-missing", _with_sidecar, "broken.role-missing"),
    _case("trust-other-namespace", lambda n: _with_sidecar(n, role(n, statement(subject("other")))), "broken.trust"),
    _case(
        "trust-other-audience", lambda n: _with_sidecar(n, role(n, statement(subject(n), aud="other"))), "broken.trust"
    ),
    _case(
        "trust-other-cluster",
        lambda n: _with_sidecar(n, role(n, statement(subject(n), Principal={"Federated": OTHER_PROVIDER_ARN}))),
        "broken.trust",
    ),
    _case(
        "trust-deny",
        lambda n: _with_sidecar(n, role(n, statement(subject(n)), statement(subject(n), Effect="Deny"))),
        "broken.trust",
    ),
    _case(
        "trust-equals-wildcard",
        lambda n: _with_sidecar(n, role(n, statement(f"system:serviceaccount:{n}:*"))),
        "broken.trust",
    ),
    _case(
        "association-role",
        lambda n: Parts((service_account(n), pod(n, _pod_identity_container())), (), (_association(n, role_arn(n)),)),
        "broken.association-role",
    ),
    _case(
        "misspelt-annotation",
        lambda n: Parts((service_account(n, **{"eks.amazonaws.com__rolearn": role_arn(n)}), pod(n))),
        "broken.misspelt-annotation",
    ),
    _case(
        "misspelt-label", lambda n: _application(n, labels={"irsa-sidecar.io/injct": "true"}), "broken.misspelt-on-pod"
    ),
    _case(
        "misspelt-pod-annotation",
        lambda n: Parts(
            (
                service_account(n, role=role_arn(n)),
                sidecar_pod(n, role_arn(n), annotations={"irsa-sidecar.io/durations": "max"}),
            ),
            (_right_role(n),),
        ),
        "broken.misspelt-on-pod",
    ),
    _case(
        "stale-sidecar",
        lambda n: Parts((service_account(n, role=role_arn(n)), sidecar_pod(n, role_arn("former"))), (_right_role(n),)),
        "broken.stale-pod",
    ),
    _case(
        "stale-irsa",
        lambda n: Parts(
            (service_account(n, role=role_arn(n)), pod(n, irsa_container(role_arn("former")))), (_right_role(n),)
        ),
        "broken.stale-pod",
        "exposed.token",
    ),
    _case(
        "not-injected",
        lambda n: Parts(
            (service_account(n, role=role_arn(n)), pod(n, labels={INJECT_LABEL: "true"})), (_right_role(n),)
        ),
        "broken.not-injected",
    ),
    _case(
        "no-identity",
        lambda n: Parts((service_account(n, role=role_arn(n)), pod(n)), (_right_role(n),)),
        "broken.no-identity",
    ),
    _case("any-subject", lambda n: _with_sidecar(n, role(n, statement(None))), "wide.any-subject"),
    _case(
        "any-subject-star",
        lambda n: _with_sidecar(n, role(n, statement("*", operator="StringLike"))),
        "wide.any-subject",
    ),
    _case(
        "pattern-namespace",
        lambda n: _with_sidecar(n, role(n, statement(f"system:serviceaccount:{n}:*", operator="StringLike"))),
        "wide.pattern",
    ),
    _case(
        "pattern-name",
        lambda n: _with_sidecar(n, role(n, statement("system:serviceaccount:pattern-*:app", operator="StringLike"))),
        "wide.pattern",
    ),
    _case("no-audience", lambda n: _with_sidecar(n, role(n, statement(subject(n), aud=None))), "wide.no-audience"),
    _case(
        "many-clusters",
        lambda n: _with_sidecar(
            n, role(n, statement(subject(n)), statement(subject(n), Principal={"Federated": OTHER_PROVIDER_ARN}))
        ),
        "wide.many-clusters",
    ),
    _case(
        "shared-role",
        lambda n: Parts(
            (
                service_account(n, role=role_arn(n)),
                sidecar_pod(n, role_arn(n)),
                service_account(n, "second", role=role_arn(n)),
                sidecar_pod(n, role_arn(n), name="second", serviceAccountName="second"),
            ),
            (role(n, statement([subject(n), subject(n, "second")])),),
        ),
        "wide.shared-role",
    ),
    _case(
        "plain-irsa",
        lambda n: Parts((service_account(n, role=role_arn(n)), pod(n, irsa_container(role_arn(n)))), (_right_role(n),)),
        "exposed.token",
    ),
    _case("metadata", lambda n: _application(n, nodeName=FAR_NODE), "exposed.metadata"),
    _case(
        "metadata-with-open-policy",
        lambda n: Parts(
            (
                service_account(n),
                pod(n, nodeName=FAR_NODE),
                network_policy(n, {"to": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8"]}}]}),
            )
        ),
        "exposed.metadata",
    ),
    _case("host-network", lambda n: _application(n, hostNetwork=True), "exposed.host-network"),
    _case(
        "node-role",
        lambda n: _application(n, container(AWS_REGION="eu-west-1"), nodeName=FAR_NODE),
        "exposed.node-role",
        "exposed.metadata",
    ),
    _case(
        "keys-in-variable", lambda n: _application(n, container(AWS_SECRET_ACCESS_KEY="secret")), "exposed.static-keys"
    ),
    _case("keys-in-secret", lambda n: _application(n, container(AWS_ACCESS_KEY_ID=_SECRET_KEY)), "exposed.static-keys"),
    _case(
        "keys-in-env-from",
        lambda n: _application(n, container() | {"envFrom": [{"secretRef": {"name": "prod-aws-credentials"}}]}),
        "exposed.static-keys",
    ),
    _case(
        "two-identities",
        lambda n: Parts(
            (service_account(n, role=role_arn(n)), sidecar_pod(n, role_arn(n))),
            (_right_role(n),),
            (_association(n, role_arn(n)),),
        ),
        "exposed.two-identities",
    ),
    _case(
        "two-sources",
        lambda n: Parts(
            (
                service_account(n, role=role_arn(n)),
                pod(
                    n,
                    irsa_container(role_arn(n))
                    | {
                        "env": [
                            *irsa_container(role_arn(n))["env"],
                            {"name": "AWS_ACCESS_KEY_ID", "value": "AKIA"},
                        ]
                    },
                ),
            ),
            (_right_role(n),),
        ),
        "exposed.two-sources",
        "exposed.static-keys",
        "exposed.token",
    ),
    _case("unused-role", lambda n: Parts((service_account(n), pod(n)), (_right_role(n),)), "unused.role"),
    _case(
        "unused-service-account",
        lambda n: Parts((service_account(n, role=role_arn(n)),), (_right_role(n),)),
        "unused.service-account",
    ),
    _case("idle-role", lambda n: _with_sidecar(n, _right_role(n, RoleLastUsed={})), "unused.idle-role", is_old=True),
    _case(
        "short-sessions",
        lambda n: Parts(
            (
                service_account(n, role=role_arn(n)),
                *(sidecar_pod(n, role_arn(n), duration=None, name=f"app-{i}") for i in range(5)),
            ),
            (_right_role(n, MaxSessionDuration=43200),),
        ),
        "cost.longer-sessions",
    ),
)

CASES = (*RIGHT, *WRONG)
