"""
Create the sidecar's container and its three volumes. Pure.

Mounts. Only the sidecar mounts the token and the state (state_directory.py). The sidecar and the containers of a role
mount the secret of that role. Every user can read the secret's file (0644), because containers run as any user. A group
would not suffice: a server that starts its workers as other users loses supplementary groups. Other containers cannot
read the file, because they do not mount the volume.

Probes. The startup probe delays the application until credentials are available, because some SDKs (PHP, minio) do not
retry after a first error. The probe is a command instead of a GET for two reasons. The Pod's events show the output of
a command, such as `AccessDenied …`, but only `status 503` for a GET. And a command can wait: a usual start needs one
process, and a start that hangs needs one process every four seconds. The liveness probe is a GET, because a GET starts
no process in a running Pod. There is no readiness probe. With a readiness probe, an outage of STS would remove all Pods
from all Services at the same time. But credentials are still valid then, and the application may do more than call AWS.

A plain sidecar, before Kubernetes 1.29, starts together with the application, so a startup probe cannot delay the
application. But the kubelet starts containers in the order of the list, each after the postStart hook of the previous
one. So the hook of a plain sidecar waits for credentials (Kubernetes: Container Lifecycle Hooks; kubelet's SyncPod).
"""

from typing import Any

from sidecar.injection.app_container import secret_directory, secret_mount
from sidecar.injection.names import (
    ADMIN_PORT,
    AUTHORIZATION_VOLUME,
    CONTAINER,
    ROLES,
    ROLES_FILE,
    STATE_DIRECTORY,
    STATE_VOLUME,
    TOKEN_DIRECTORY,
    TOKEN_FILE,
    TOKEN_VOLUME,
)
from sidecar.injection.options import InjectionOptions
from sidecar.injection.settings import Settings
from sidecar.kubernetes.document import Document

USER = 65532
"""The user and group of the image. They are set here too, because a Pod may set another user for all its containers.

Without a group, the process would have gid 0.
"""

SECURITY_CONTEXT: Document = {
    "runAsNonRoot": True,
    "runAsUser": USER,
    "runAsGroup": USER,
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}
"""The profile `restricted` of the Pod Security Standards."""

PROBE_WAIT_SECONDS = 4

STARTUP_PROBE: Document = {
    "exec": {"command": ["irsa-sidecar", "probe", "--wait", str(PROBE_WAIT_SECONDS)]},
    "timeoutSeconds": PROBE_WAIT_SECONDS + 2,
    "periodSeconds": 1,
    # About ten minutes: the role or its trust policy may be created later. A restart after that time does no harm.
    "failureThreshold": 120,
}

LIVENESS_PROBE: Document = {
    "httpGet": {"path": "/livez", "port": ADMIN_PORT},
    "timeoutSeconds": 5,
    "periodSeconds": 30,
    "failureThreshold": 4,
}
"""The liveness probe. /livez itself reports a stuck event loop only after five minutes."""

POST_START: Document = {"exec": {"command": ["irsa-sidecar", "probe", "--wait", "60"]}}
"""
The postStart hook of a plain sidecar, which waits for credentials.

Without credentials after a minute the hook fails. The kubelet then starts the application anyway, and restarts the
sidecar. The Pod's status is `PostStartHookError`.
"""

MAX_DRAIN_SECONDS = 10
"""Longest time for which a plain sidecar serves after SIGTERM. The application gets SIGTERM at the same time."""

GRACE_SECONDS = 30
"""The default of terminationGracePeriodSeconds in Kubernetes."""

SECRET_SPACE = "1Mi"  # noqa: S105
"""
Size limit of the secrets' volume. 50 roles need 0.4 MiB, a page for each secret and directory. The volume uses memory.
"""

STATE_SPACE = "2Mi"
"""
Size limit of the state's volume: two files of 16 KiB for each of at most 50 roles.

The second file exists while it replaces the first. A session token has up to 4,096 bytes. The volume uses memory that
counts against the sidecar's limit, so the volume has its own limit.
"""

NO_API_TOKEN: Document = {
    "name": AUTHORIZATION_VOLUME,
    "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount",
    "subPath": ".no-api-token",
    "readOnly": True,
}
"""
The mount of an empty directory at the path where the API server mounts its own token into every container of a Pod.

The ServiceAccount admission plugin skips a container that already has a mount at this path. The sidecar does not use
the API. The name of a role never starts with a dot, so the directory conflicts with no role.
"""


def sidecar_container(
    options: InjectionOptions, settings: Settings, resources: Document, grace_seconds: int
) -> Document:
    """Return the sidecar: an init container that Kubernetes keeps running, or before 1.29 a plain container."""
    is_only = options.role_arn is not None
    container: Document = {
        "name": CONTAINER,
        "image": settings.image,
        "args": ["run"],
        "restartPolicy": "Always",
        "env": [{"name": name, "value": value} for name, value in _variables(options, settings, grace_seconds).items()],
        "ports": [{"name": CONTAINER, "containerPort": ADMIN_PORT, "protocol": "TCP"}],
        "resources": _copy(resources),
        "securityContext": _copy(SECURITY_CONTEXT),
        "startupProbe": _copy(STARTUP_PROBE),
        "livenessProbe": _copy(LIVENESS_PROBE),
        # `kubectl describe pod` then shows an invalid setting.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"name": TOKEN_VOLUME, "mountPath": TOKEN_DIRECTORY, "readOnly": True},
            *(secret_mount(role, is_only=is_only) for role in options.roles),
            {"name": STATE_VOLUME, "mountPath": STATE_DIRECTORY},
            _copy(NO_API_TOKEN),
        ],
    }
    if not settings.is_native:
        del container["restartPolicy"]
        container["lifecycle"] = {"postStart": _copy(POST_START)}
    return container


def _copy(document: Any) -> Any:
    """
    Return a copy of a constant, so that no change to one Pod can affect another, and PyYAML writes no anchor.

    copy.deepcopy of the whole container takes a third of the time of an injection.
    """
    if isinstance(document, dict):
        return {key: _copy(value) for key, value in document.items()}
    return [_copy(item) for item in document] if isinstance(document, list) else document


def volumes(options: InjectionOptions) -> list[Document]:
    """
    Return the volumes for the token, the secrets and the state.

    If an annotation lists several roles, the Downward API mounts the annotation as a file into the token's volume. So
    the sidecar sees a changed annotation without a ConfigMap.
    """
    token = {"audience": options.audience, "expirationSeconds": options.expiration_seconds, "path": "token"}
    sources: list[Document] = [{"serviceAccountToken": token}]
    if options.role_arn is None:
        item = {"path": ROLES_FILE.rpartition("/")[2], "fieldRef": {"fieldPath": f"metadata.annotations['{ROLES}']"}}
        sources.append({"downwardAPI": {"items": [item]}})
    return [
        {"name": TOKEN_VOLUME, "projected": {"sources": sources}},
        {"name": AUTHORIZATION_VOLUME, "emptyDir": {"medium": "Memory", "sizeLimit": SECRET_SPACE}},
        {"name": STATE_VOLUME, "emptyDir": {"medium": "Memory", "sizeLimit": STATE_SPACE}},
    ]


def _variables(options: InjectionOptions, settings: Settings, grace_seconds: int) -> dict[str, str]:
    is_only = options.role_arn is not None
    directory, _ = secret_directory(options.roles[0]._replace(name="{role}"), is_only=is_only)
    values = {
        "AWS_ROLE_ARN": options.role_arn,
        "IRSA_SIDECAR_CONFIG": None if is_only else ROLES_FILE,
        "AWS_WEB_IDENTITY_TOKEN_FILE": TOKEN_FILE,
        "AWS_REGION": settings.region,
        "AWS_ROLE_SESSION_NAME": options.session_name,
        "IRSA_SIDECAR_DURATION": options.duration,
        "IRSA_SIDECAR_AUTHORIZATION_TOKEN_FILE": f"{directory}/token",
        "IRSA_SIDECAR_AUTHORIZATION_MODE": "0644",
        "IRSA_SIDECAR_STATE_DIR": STATE_DIRECTORY,
        "IRSA_SIDECAR_DRAIN_SECONDS": None if settings.is_native else str(drain_seconds(grace_seconds)),
        **dict(settings.environment),
    }
    return {name: value for name, value in values.items() if value is not None}


def drain_seconds(grace_seconds: int) -> int:
    """Return how long a plain sidecar serves after SIGTERM: at most MAX_DRAIN_SECONDS, and 2 s less than the grace."""
    return max(0, min(MAX_DRAIN_SECONDS, grace_seconds - 2))
