"""Describe the labels and annotations for injection. Tests pass the examples to the real parser."""

from collections.abc import Mapping
from typing import NamedTuple

from sidecar.injection.eks_webhook import POD_IDENTITY_LABEL
from sidecar.injection.eks_webhook import SKIP_CONTAINERS as EKS_SKIP_CONTAINERS
from sidecar.injection.inject import DEFAULT_CONTAINER
from sidecar.injection.names import (
    AUDIENCE,
    CONTAINERS,
    DURATION,
    EKS_AUDIENCE,
    EKS_ROLE_ARN,
    EKS_STS_REGIONAL,
    EKS_TOKEN_EXPIRATION,
    REJECTION,
    ROLE_ARN,
    ROLES,
    SESSION_NAME,
    SKIP_CONTAINERS,
    TOKEN_EXPIRATION,
)
from sidecar.injection.options import (
    DEFAULT_AUDIENCE,
    DEFAULT_EXPIRATION_SECONDS,
    DEFAULT_SESSION_SECONDS,
    MAX_AUDIENCE_CHARACTERS,
    MAX_EXPIRATION_SECONDS,
    MAX_ROLES_CHARACTERS,
    MAX_ROLES_DEPTH,
    MIN_EXPIRATION_SECONDS,
)
from sidecar.injection.validation import STATIC


class AnnotationNote(NamedTuple):
    """One label or annotation: its meaning, its form, its default, an accepted example and a rejected value."""

    meaning: str
    form: str
    default: str
    example: str
    rejected: str | None = None


_ROLE = "arn:aws:iam::111122223333:role/cart"

_ROLES_EXAMPLE = f"""\
- name: default
  role_arn: {_ROLE}
- name: reports
  role_arn: arn:aws:iam::111122223333:role/reports
  containers: [exporter]
"""

INJECT = AnnotationNote(
    "Requests a sidecar for the Pod. With `false`, the Pod gets no sidecar.",
    '`"true"` or `"false"`, in quotes, because YAML reads a value without quotes as a boolean',
    "no sidecar",
    "true",
    "yes",
)

OF_THE_POD: Mapping[str, AnnotationNote] = {
    ROLE_ARN: AnnotationNote(
        "The role of all containers that get credentials.",
        "the ARN of an IAM role",
        f"the annotation `{EKS_ROLE_ARN}` of the ServiceAccount",
        _ROLE,
        "cart",
    ),
    ROLES: AnnotationNote(
        "Several roles instead of one, each for its own containers. At most one role may omit `containers`.",
        f"a YAML list in the form of [the roles file](roles-file.md), of at most {MAX_ROLES_CHARACTERS} characters and "
        f"{MAX_ROLES_DEPTH} levels, without `token_file` and `authorization_token_file`",
        "one role",
        _ROLES_EXAMPLE,
        "[]",
    ),
    CONTAINERS: AnnotationNote(
        "The only containers that get credentials.",
        "names of containers, separated by commas",
        "all containers",
        "web,worker",
        "web,,worker",
    ),
    SKIP_CONTAINERS: AnnotationNote(
        f"The containers that get no credentials. A Pod cannot have both this annotation and `{CONTAINERS}`.",
        "names of containers, separated by commas",
        "no container",
        "proxy",
        "",
    ),
    AUDIENCE: AnnotationNote(
        "The audience of the token. The IAM OIDC provider must accept this audience.",
        f"1 to {MAX_AUDIENCE_CHARACTERS} visible ASCII characters",
        f"the annotation `{EKS_AUDIENCE}` of the ServiceAccount, else `{DEFAULT_AUDIENCE}`",
        DEFAULT_AUDIENCE,
        "",
    ),
    TOKEN_EXPIRATION: AnnotationNote(
        "The lifetime of the token.",
        f"whole seconds from {MIN_EXPIRATION_SECONDS} to {MAX_EXPIRATION_SECONDS}",
        f"the annotation `{EKS_TOKEN_EXPIRATION}` of the Pod or the ServiceAccount, else {DEFAULT_EXPIRATION_SECONDS}",
        "3600",
        "60",
    ),
    DURATION: AnnotationNote(
        "The duration of the session to request. The role must allow this duration.",
        "whole seconds from 900 to 43200, or `max`",
        str(DEFAULT_SESSION_SECONDS),
        "max",
        "60",
    ),
    SESSION_NAME: AnnotationNote(
        "The name of the role session, which CloudTrail shows.",
        "2 to 64 ASCII letters, digits and `_+=,.@-`, or a template with `{namespace}`, `{service_account}`, `{pod}`, "
        "`{uid}` and `{role}`",
        "`{namespace}.{pod}`",
        "{namespace}.{service_account}",
        "a b",
    ),
}
"""The annotations on a Pod, in the order of the code."""

OF_THE_SERVICE_ACCOUNT: Mapping[str, AnnotationNote] = {
    EKS_ROLE_ARN: AnnotationNote(
        "The role of Pods without an annotation for the role.",
        "the ARN of an IAM role",
        "none, and injection rejects a Pod without a role",
        _ROLE,
        "cart",
    ),
    EKS_AUDIENCE: AnnotationNote(
        "The audience of the token.",
        f"1 to {MAX_AUDIENCE_CHARACTERS} visible ASCII characters",
        f"`{DEFAULT_AUDIENCE}`",
        DEFAULT_AUDIENCE,
        "",
    ),
    EKS_TOKEN_EXPIRATION: AnnotationNote(
        f"The lifetime of the token. A value below {MIN_EXPIRATION_SECONDS} counts as "
        f"{MIN_EXPIRATION_SECONDS}, and a value above {MAX_EXPIRATION_SECONDS} counts as "
        f"{MAX_EXPIRATION_SECONDS}. The annotation also works on the Pod.",
        "whole seconds",
        str(DEFAULT_EXPIRATION_SECONDS),
        "7200",
        "1h",
    ),
    EKS_STS_REGIONAL: AnnotationNote(
        "With `true`, containers get `AWS_STS_REGIONAL_ENDPOINTS=regional`.",
        "`true`, in upper or lower case. Every other value means `false`",
        "`false`",
        "true",
    ),
}
"""The annotations on a ServiceAccount that injection reads. Amazon defines these annotations."""

SET_OR_CHECKED: Mapping[str, str] = {
    REJECTION: "Annotation in which a policy (`irsa-sidecar setup policy`) writes why a Pod cannot get a sidecar. "
    "The API server then rejects the Pod, so no Pod in the cluster has this annotation.",
    EKS_SKIP_CONTAINERS: "Annotation that injection sets on the Pod. It lists the sidecar and the containers with "
    "credentials, so that Amazon's webhook does not change them.",
    DEFAULT_CONTAINER: "Annotation that injection sets before Kubernetes 1.29, so that `kubectl logs` and `kubectl "
    "exec` choose the first container of the application.",
    POD_IDENTITY_LABEL: "Label of Amazon's webhook for EKS Pod Identity. Injection removes this label if no "
    "container of the changed Pod uses Pod Identity.",
    STATIC: "Annotation of a static Pod. Injection rejects such a Pod, because the kubelet runs it from a local file.",
}
"""The other labels and annotations that injection sets, removes or checks."""
