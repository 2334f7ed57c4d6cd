"""Check the settings for all Pods, from the operator of the webhook or the user of `setup pod`. Pure."""

import re
from collections.abc import Mapping
from typing import NamedTuple

from sidecar.errors import ConfigurationError
from sidecar.injection.names import DURATION, OUR_VARIABLES, ROLE_ARN, ROLES, SESSION_NAME
from sidecar.injection.resources import RESOURCES
from sidecar.kubernetes.document import Document

FIRST_NATIVE = (1, 29)
"""The first version of Kubernetes that has native sidecars (`restartPolicy: Always`) without a feature gate."""

KUBELET_SKEW = 3
"""Maximum number of minor versions by which a node may be older than the API server (Version Skew Policy)."""

NATIVE_CHOICES = ("auto", "always", "never")
"""The choices for native sidecars: by the API server's version, always, or never."""


class ServiceAccount(NamedTuple):
    """The ServiceAccount of a Pod. `unread` holds the names of other annotations, which may be misspelt."""

    namespace: str
    name: str
    annotations: dict[str, str]
    unread: tuple[str, ...] = ()


class Settings(NamedTuple):
    """
    The settings for all Pods.

    `is_native` is true if all nodes support native sidecars. `role_arn` is the default role.
    """

    image: str
    region: str
    is_native: bool = True
    role_arn: str | None = None
    environment: tuple[tuple[str, str], ...] = ()
    """Other variables for the sidecar, for example for proxies, FIPS or fallback regions."""
    resources: Document = RESOURCES
    """The sidecar's resources in a Pod that is not of the QoS class Guaranteed."""


class SidecarKind(NamedTuple):
    """The kind of sidecar for Pods, and the reason for that kind, which is logged."""

    is_native: bool
    reason: str


def choose_kind(choice: str, version: Document) -> SidecarKind:
    """
    Choose the kind by one of NATIVE_CHOICES and the response to /version: `{"major": "1", "minor": "29+", …}`.

    The API server reports only its own version, and the nodes may be older. A kubelet of 1.28 rejects a Pod with a
    native sidecar (InitContainerRestartPolicyForbidden). An older kubelet ignores the restartPolicy of an init
    container, and waits forever for the container to exit.
    """
    if choice != "auto":
        return SidecarKind(choice == "always", f"--native-sidecars {choice}")
    major, minor = (int(re.match(r"\d+", str(version[part]))[0]) for part in ("major", "minor"))  # type: ignore[index]
    if (major, minor) < FIRST_NATIVE:
        return SidecarKind(False, f"the API server has version {major}.{minor}, and native sidecars need 1.29")  # noqa: FBT003
    reason = f"the API server has version {major}.{minor}"
    if (major, minor - KUBELET_SKEW) < FIRST_NATIVE:
        reason += (
            f"; nodes may still have 1.{minor - KUBELET_SKEW}, and native sidecars need 1.29: set --native-sidecars "
            "never until all nodes have 1.29"
        )
    return SidecarKind(True, reason)  # noqa: FBT003


def check_image(setting: str, text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][\w.:/@-]{0,511}", text, re.ASCII):
        raise ConfigurationError(
            f"{setting} is {text[:100]!r}, which is not the name of an image",
            fix="Use the image of irsa-sidecar, such as registry.example.com/irsa-sidecar:0.1.0",
            setting=setting,
        )
    return text


def check_region(setting: str, text: str) -> str:
    if not re.fullmatch(r"[a-z0-9-]{1,63}", text):
        problem = f"{setting} is {text[:100]!r}, which is not an AWS region"
        raise ConfigurationError(problem, fix="Use a region such as eu-west-1", setting=setting)
    return text


def find_region(flag: str | None, environ: Mapping[str, str]) -> str:
    """
    Return the region from --region, or else from AWS's variables.

    Raises ConfigurationError if there is no region, or the region is invalid.
    """
    given = {"--region": flag} | {name: environ.get(name) for name in ("AWS_REGION", "AWS_DEFAULT_REGION")}
    for setting, region in given.items():
        if region:
            return check_region(setting, region)
    fix = "Set the region whose STS the sidecars call, such as eu-west-1"
    raise ConfigurationError("Neither --region nor AWS_REGION is set", fix=fix, setting="--region")


_SET_BY = {
    "AWS_REGION": "--region",
    "AWS_ROLE_ARN": f"the annotation {ROLE_ARN} of a Pod",
    "AWS_ROLE_SESSION_NAME": f"the annotation {SESSION_NAME} of a Pod",
    "IRSA_SIDECAR_CONFIG": f"the annotation {ROLES} of a Pod",
    "IRSA_SIDECAR_DURATION": f"the annotation {DURATION} of a Pod",
}
"""The flag or annotation to use instead of a variable that injection sets. Other variables have fixed values."""


def check_variable(setting: str, text: str) -> tuple[str, str]:
    """
    Parse NAME=VALUE.

    Raises ConfigurationError if the text has another form, or if injection sets the variable itself.
    """
    name, sign, value = text.partition("=")
    if not sign or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        problem = f"{setting} is {name[:100]!r}, which is not a variable with its value"
        raise ConfigurationError(problem, fix="Pass a variable of the sidecar as NAME=VALUE", setting=setting)
    if name in OUR_VARIABLES:
        fix = f"Remove it, and use {_SET_BY[name]}" if name in _SET_BY else "Remove it"
        raise ConfigurationError(f"{setting} sets {name}, which injection sets itself", fix=fix, setting=setting)
    return name, value
