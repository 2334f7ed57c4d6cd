"""
Define the names of our parts of a Pod. The names never change, because users write the annotations and labels.

options.py reads the annotations for the webhook, and sidecar/policy/ has the same annotations as CEL expressions.
"""

PREFIX = "irsa-sidecar.io/"

INJECT_LABEL = f"{PREFIX}inject"
INJECT_TRUE, INJECT_FALSE = "true", "false"
"""
The valid values of the label.

A Pod with another value, such as `yes`, is rejected, because its author probably wants a sidecar.
"""

ROLE_ARN = f"{PREFIX}role-arn"
ROLES = f"{PREFIX}roles"
CONTAINERS = f"{PREFIX}containers"
SKIP_CONTAINERS = f"{PREFIX}skip-containers"
AUDIENCE = f"{PREFIX}audience"
TOKEN_EXPIRATION = f"{PREFIX}token-expiration"
DURATION = f"{PREFIX}duration"
SESSION_NAME = f"{PREFIX}session-name"

ANNOTATIONS = {
    ROLE_ARN: "the role; without it, the ServiceAccount's `eks.amazonaws.com/role-arn`",
    ROLES: "several roles instead of one: a YAML list, with `containers: [NAME, …]` in each",
    CONTAINERS: "the containers that get credentials, separated by commas; without it, all of them",
    SKIP_CONTAINERS: "the containers that get no credentials, instead of `containers`",
    AUDIENCE: "the token's audience; without it, the ServiceAccount's `eks.amazonaws.com/audience`, else "
    "`sts.amazonaws.com`",
    TOKEN_EXPIRATION: "how many seconds a token is valid, 600 to 86400; without it, "
    "`eks.amazonaws.com/token-expiration` of Pod or ServiceAccount, else 86400",
    DURATION: "how long credentials are valid: 900 to 43200 seconds, or `max`; without it, 3600",
    SESSION_NAME: "the role session's name, or a template for it; without it, `{namespace}.{pod}`",
}
"""The annotations of a Pod, each with its meaning."""

REJECTION = f"{PREFIX}rejection"
"""The annotation in which a policy writes why a Pod cannot get a sidecar (sidecar/policy). No stored Pod has it."""

EKS_PREFIX = "eks.amazonaws.com/"

EKS_ROLE_ARN = f"{EKS_PREFIX}role-arn"
EKS_AUDIENCE = f"{EKS_PREFIX}audience"
EKS_TOKEN_EXPIRATION = f"{EKS_PREFIX}token-expiration"
EKS_STS_REGIONAL = f"{EKS_PREFIX}sts-regional-endpoints"

SERVICE_ACCOUNT_ANNOTATIONS = (EKS_ROLE_ARN, EKS_AUDIENCE, EKS_TOKEN_EXPIRATION, EKS_STS_REGIONAL)
"""The annotations of a ServiceAccount that injection reads."""

CONTAINER = "irsa-sidecar"
TOKEN_VOLUME = "irsa-sidecar-token"  # noqa: S105  a name
AUTHORIZATION_VOLUME = "irsa-sidecar-authorization"
STATE_VOLUME = "irsa-sidecar-state"

TOKEN_DIRECTORY = "/var/run/secrets/irsa-sidecar"  # noqa: S105
TOKEN_FILE = f"{TOKEN_DIRECTORY}/token"
ROLES_FILE = f"{TOKEN_DIRECTORY}/roles.yaml"
AUTHORIZATION_DIRECTORY = "/run/irsa-sidecar"
STATE_DIRECTORY = "/run/irsa-sidecar-state"

CREDENTIALS_PORT, ADMIN_PORT = 4772, 4773
ORIGIN = f"http://127.0.0.1:{CREDENTIALS_PORT}"

OUR_VARIABLES = (
    "AWS_ROLE_ARN",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_ROLE_SESSION_NAME",
    "AWS_REGION",
    "IRSA_SIDECAR_CONFIG",
    "IRSA_SIDECAR_DURATION",
    "IRSA_SIDECAR_AUTHORIZATION_TOKEN_FILE",
    "IRSA_SIDECAR_AUTHORIZATION_MODE",
    "IRSA_SIDECAR_STATE_DIR",
    "IRSA_SIDECAR_DRAIN_SECONDS",
    "IRSA_SIDECAR_LISTEN",
    "IRSA_SIDECAR_ADMIN_LISTEN",
)
"""
Variables of the sidecar that only injection sets.

Injection leaves some of them at their defaults, because the application's variables depend on these defaults.
"""
