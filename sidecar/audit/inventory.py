"""
Define the inventory: the objects of one cluster and one account that the rules use. Pure.

Rule: an inventory holds no secret. It holds values only for the variables in VALUES_KEPT. For other variables of AWS
and irsa-sidecar, it holds the name, and the name of the Secret if the value comes from one.

`audit --save` writes the inventory as JSON, and `audit --from` reads it. A field that is added later needs a default.
"""

from typing import Any

import msgspec

VERSION = 1
"""Version of the saved inventory. It increases when a field is removed or changes its meaning."""

VALUES_KEPT = frozenset(
    {
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        "AWS_DEFAULT_REGION",
        "AWS_EC2_METADATA_DISABLED",
        "AWS_REGION",
        "AWS_ROLE_ARN",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "IRSA_SIDECAR_DURATION",
    }
)
"""Names of the variables whose values are in the inventory. None of these variables holds a secret."""


SERVICE_ACCOUNTS, PODS = "Kubernetes ServiceAccounts", "Kubernetes Pods"
NETWORK_POLICIES, NODES, ISSUER = "Kubernetes NetworkPolicies", "Kubernetes Nodes", "cluster issuer"
ROLES, PROVIDERS, CALLER = "IAM roles", "IAM OIDC providers", "AWS account"
ASSOCIATIONS, INSTANCES = "EKS Pod Identity associations", "EC2 instances"
"""Names of the parts of an inventory. `Problem.part` is such a name, or a detail such as `details of IAM roles`."""


class Problem(msgspec.Struct, frozen=True):
    """A part of the inventory that could not be read, such as `Kubernetes Pods`, with the reason and the fix."""

    part: str
    reason: str
    fix: str = ""


class ServiceAccount(msgspec.Struct, frozen=True):
    """
    A ServiceAccount of the cluster.

    `annotations` has the values of the annotations that irsa-sidecar or Amazon's webhook reads. The other annotations
    have empty values.
    """

    namespace: str
    name: str
    annotations: dict[str, str] = {}


class Variable(msgspec.Struct, frozen=True):
    """
    A variable of a container.

    `value` is None if the value is not kept or is not known. `secret` is the name of the Secret that holds the value.
    `is_empty` is true if the variable is set to an empty value.
    """

    name: str
    value: str | None = None
    secret: str | None = None
    is_empty: bool = False


class Container(msgspec.Struct, frozen=True):
    """
    A container of a Pod. `secrets` are the Secrets in `envFrom`, and `volumes` are the names of mounted volumes.

    `is_native_sidecar` is true for an init container that runs as long as the Pod.
    """

    name: str
    image: str = ""
    variables: tuple[Variable, ...] = ()
    secrets: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    is_init: bool = False
    is_native_sidecar: bool = False


class TokenVolume(msgspec.Struct, frozen=True):
    """A volume with a service account token that has an explicit audience."""

    name: str
    audience: str
    expiration_seconds: int = 3600


class Pod(msgspec.Struct, frozen=True):
    """
    A Pod of the cluster.

    `owner` is the kind and name of the workload that created the Pod, or empty. `annotations` has values as in
    ServiceAccount. `created_at` is in Unix seconds. `is_finished` is true if all containers of the Pod have ended.
    """

    namespace: str
    name: str
    service_account: str
    owner: str = ""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    containers: tuple[Container, ...] = ()
    tokens: tuple[TokenVolume, ...] = ()
    node: str = ""
    created_at: float = 0.0
    is_on_host_network: bool = False
    is_finished: bool = False


class LabelRequirement(msgspec.Struct, frozen=True):
    """One requirement of a label selector: `In`, `NotIn`, `Exists` or `DoesNotExist` (meta/v1 LabelSelector)."""

    key: str
    operator: str
    values: tuple[str, ...] = ()


class EgressPolicy(msgspec.Struct, frozen=True):
    """A network policy that restricts the outgoing traffic of the Pods that its selector matches."""

    namespace: str
    name: str
    selector: tuple[LabelRequirement, ...] = ()
    allows_metadata: bool = False
    """True if the policy allows connections to the instance metadata service."""


class Node(msgspec.Struct, frozen=True):
    """A node. `instance_id` is the id of its EC2 instance, or empty for a node that is not on EC2."""

    name: str
    instance_id: str = ""


class Cluster(msgspec.Struct, frozen=True, kw_only=True):
    """
    The objects of one cluster.

    `name` is the name of the EKS cluster, or empty. `issuer_thumbprint` is the thumbprint that the OIDC provider needs,
    or empty if a public authority issued the certificate of the issuer's server, or if the audit did not check it.
    """

    version: int = VERSION
    read_at: float
    context: str = ""
    name: str = ""
    issuer: str = ""
    issuer_thumbprint: str = ""
    service_accounts: tuple[ServiceAccount, ...] = ()
    pods: tuple[Pod, ...] = ()
    egress_policies: tuple[EgressPolicy, ...] = ()
    nodes: tuple[Node, ...] = ()
    problems: tuple[Problem, ...] = ()


class AttachedPolicy(msgspec.Struct, frozen=True):
    """A permissions policy of a role. `arn` is empty for an inline policy."""

    name: str
    arn: str = ""


class Role(msgspec.Struct, frozen=True, kw_only=True):
    """
    An IAM role. `trust_policy` is the parsed document.

    `last_used_at` is None if IAM reports no use in its tracking period of 400 days. `boundary` is the ARN of the
    permissions boundary, or empty. `is_detailed` is true if all calls for the role succeeded. Otherwise, the boundary,
    the last use and the policies are not known.
    """

    arn: str
    trust_policy: dict[str, Any]
    created_at: float = 0.0
    max_session_seconds: int = 3600
    boundary: str = ""
    last_used_at: float | None = None
    policies: tuple[AttachedPolicy, ...] = ()
    is_detailed: bool = False

    @property
    def name(self) -> str:
        return self.arn.rpartition("/")[2]


class OidcProvider(msgspec.Struct, frozen=True):
    """An IAM OIDC provider. `is_detailed` is true if GetOpenIDConnectProvider succeeded."""

    arn: str
    client_ids: tuple[str, ...] = ()
    thumbprints: tuple[str, ...] = ()
    is_detailed: bool = False


class Association(msgspec.Struct, frozen=True):
    """An EKS Pod Identity association. `role_arn` is empty if the details could not be read."""

    namespace: str
    service_account: str
    association_id: str = ""
    role_arn: str = ""


class Instance(msgspec.Struct, frozen=True):
    """
    An EC2 instance of a node.

    `hop_limit` is the number of network hops that a response of the metadata service with a session token survives. A
    Pod without host network is two hops away.
    """

    instance_id: str
    hop_limit: int = 1
    is_token_required: bool = False
    is_metadata_on: bool = True
    profile_arn: str = ""


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """The resources of one AWS account, and the instances of the cluster's nodes."""

    version: int = VERSION
    account_id: str = ""
    partition: str = "aws"
    roles: tuple[Role, ...] = ()
    providers: tuple[OidcProvider, ...] = ()
    associations: tuple[Association, ...] = ()
    instances: tuple[Instance, ...] = ()
    problems: tuple[Problem, ...] = ()


class Inventory(msgspec.Struct, frozen=True):
    """The cluster and the account of one audit."""

    cluster: Cluster
    account: Account
