"""
What is added to a Pod: the sidecar's container and its three volumes. Pure.

The token and the state (state_directory.py) are mounted into the sidecar alone, and each role's secret into the sidecar
and the containers of that role.
The secret's file is readable by every user (0644): containers run as whom they like, and lose supplementary groups
where a server starts its workers as others. What keeps it from others is that the volume is nowhere else.

Probes. The startup probe holds the application back until there are credentials, as some SDKs (PHP, minio) take a
first refusal for the last. It is the command and not a GET, since only a command's words come into the Pod's events,
`AccessDenied …` in place of `status 503`, and since it can wait: one process for a usual start, one in four seconds for
a start that hangs. Liveness is a GET, so that a Pod that lives starts no process for it. There is no readiness probe:
an outage of STS would take every Pod of every Service out at one time, though credentials last and the application may
do more than AWS.

A plain sidecar, before Kubernetes 1.29, starts together with the application, and no startup probe holds that back. But
the kubelet starts containers in the order of the list, and the next one once the postStart hook of the one before has
ended, so there the hook is what waits (Kubernetes: Container Lifecycle Hooks; kubelet's SyncPod).
"""

from copy import deepcopy

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
"""The image's. Said here too, as a Pod may say another for all, and without a group the process would have gid 0."""

SECURITY_CONTEXT: Document = {
    "runAsNonRoot": True,
    "runAsUser": USER,
    "runAsGroup": USER,
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}
"""Pod Security Standards, profile restricted."""

PROBE_WAIT_SECONDS = 4

STARTUP_PROBE: Document = {
    "exec": {"command": ["irsa-sidecar", "probe", "--wait", str(PROBE_WAIT_SECONDS)]},
    "timeoutSeconds": PROBE_WAIT_SECONDS + 2,
    "periodSeconds": 1,
    # Some ten minutes, in which a role or its trust policy may still come. A restart after that hurts nobody.
    "failureThreshold": 120,
}

LIVENESS_PROBE: Document = {
    "httpGet": {"path": "/livez", "port": ADMIN_PORT},
    "timeoutSeconds": 5,
    "periodSeconds": 30,
    "failureThreshold": 4,
}
"""/livez itself waits for five minutes before it says that the loop is stuck."""

POST_START: Document = {"exec": {"command": ["irsa-sidecar", "probe", "--wait", "60"]}}
"""
Of a plain sidecar. Without credentials after a minute the hook fails: the kubelet starts the application all the same,
and the sidecar anew. The Pod's status is `PostStartHookError` then.
"""

MAX_DRAIN_SECONDS = 10
"""How long a plain sidecar, which gets SIGTERM together with the application, goes on serving it."""

GRACE_SECONDS = 30
"""Kubernetes' default of terminationGracePeriodSeconds."""

SECRET_SPACE = "1Mi"  # noqa: S105
"""A page for each of at most 50 roles' secrets and directories. Memory of the Pod, so it has a limit."""

STATE_SPACE = "2Mi"
"""
Two files of 16 KiB, the second one while the first is replaced, for each of at most 50 roles. A session token has up to
4,096 bytes. Memory of the Pod that counts against the sidecar's limit, so it has a limit of its own.
"""

NO_API_TOKEN: Document = {
    "name": AUTHORIZATION_VOLUME,
    "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount",
    "subPath": ".no-api-token",
    "readOnly": True,
}
"""
An empty directory where the API server would mount its own token into every container of the Pod: it spares one that
mounts something there (the ServiceAccount admission plugin), and the sidecar has no business with the API. No role's
name begins with a dot.
"""


def sidecar_container(
    options: InjectionOptions, settings: Settings, resources: Document, grace_seconds: int
) -> Document:
    """The sidecar: an init container that Kubernetes keeps running, or before 1.29 a container like the others."""
    is_only = options.role_arn is not None
    container: Document = {
        "name": CONTAINER,
        "image": settings.image,
        "args": ["run"],
        "restartPolicy": "Always",
        "env": [{"name": name, "value": value} for name, value in _variables(options, settings, grace_seconds).items()],
        "ports": [{"name": CONTAINER, "containerPort": ADMIN_PORT, "protocol": "TCP"}],
        "resources": resources,
        "securityContext": SECURITY_CONTEXT,
        "startupProbe": STARTUP_PROBE,
        "livenessProbe": LIVENESS_PROBE,
        # A setting that cannot be used shows in `kubectl describe pod`.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"name": TOKEN_VOLUME, "mountPath": TOKEN_DIRECTORY, "readOnly": True},
            *(secret_mount(assignment, is_only=is_only) for assignment in options.assignments),
            {"name": STATE_VOLUME, "mountPath": STATE_DIRECTORY},
            NO_API_TOKEN,
        ],
    }
    if not settings.is_native:
        del container["restartPolicy"]
        container["lifecycle"] = {"postStart": POST_START}
    return deepcopy(container)  # the constants are shared, and YAML would show that by anchors


def volumes(options: InjectionOptions) -> list[Document]:
    """
    The token, with the roles where an annotation lists them, and room for the secrets and for the state.

    The annotation comes as a file through the Downward API, so a change of it reaches the sidecar as one of a ConfigMap
    would, and there is no ConfigMap to keep.
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
    directory, _ = secret_directory(options.assignments[0]._replace(role="{role}"), is_only=is_only)
    said = {
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
    return {name: value for name, value in said.items() if value is not None}


def drain_seconds(grace_seconds: int) -> int:
    """Of a plain sidecar: as long as the application may take to end, and never so long that it is killed itself."""
    return max(0, min(MAX_DRAIN_SECONDS, grace_seconds - 2))
