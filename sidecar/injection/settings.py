"""What is the same for every Pod: what the operator of the webhook, or whoever runs `setup pod`, says."""

import re
from collections.abc import Mapping
from typing import NamedTuple

from sidecar.errors import ConfigurationError
from sidecar.injection.names import DURATION, OUR_VARIABLES, ROLE_ARN, ROLES, SESSION_NAME
from sidecar.injection.resources import RESOURCES
from sidecar.kubernetes.document import Document

FIRST_NATIVE = (1, 29)
"""Kubernetes from which init containers may have restartPolicy: Always without a feature gate."""

KUBELET_SKEW = 3
"""How many minor versions a node may be older than the API server (Kubernetes documentation, Version Skew Policy)."""

NATIVE_CHOICES = ("auto", "always", "never")
"""Which sidecars a webhook gives: by the API server's version, or whatever it is."""


class ServiceAccount(NamedTuple):
    """The known facts about a Pod's. `unread` are names of annotations that may be meant to be ones that are read."""

    namespace: str
    name: str
    annotations: dict[str, str]
    unread: tuple[str, ...] = ()


class Settings(NamedTuple):
    """`is_native`: all nodes have native sidecars. `role_arn` holds where a Pod and its ServiceAccount name none."""

    image: str
    region: str
    is_native: bool = True
    role_arn: str | None = None
    environment: tuple[tuple[str, str], ...] = ()
    """More variables for the sidecar: proxies, FIPS, fallback regions."""
    resources: Document = RESOURCES
    """The sidecar's, in a Pod whose class of QoS does not come of it."""


class SidecarKind(NamedTuple):
    """Which sidecars Pods get, and why these, for the log."""

    is_native: bool
    reason: str


def choose_kind(choice: str, version: Document) -> SidecarKind:
    """
    By one of NATIVE_CHOICES and what /version answers: `{"major": "1", "minor": "29+", …}`.

    The API server tells its own version alone, and its nodes may be older. A kubelet of 1.28 refuses a Pod with a
    native sidecar (InitContainerRestartPolicyForbidden), and one before that knows no restartPolicy of an init
    container and waits for its end, which never comes.
    """
    if choice != "auto":
        return SidecarKind(choice == "always", f"--native-sidecars {choice}")
    major, minor = (int(re.match(r"\d+", str(version[part]))[0]) for part in ("major", "minor"))  # type: ignore[index]
    if (major, minor) < FIRST_NATIVE:
        return SidecarKind(False, f"the API server is of {major}.{minor}, and 1.29 is the first with them")  # noqa: FBT003
    said = f"the API server is of {major}.{minor}, and has them"
    if (major, minor - KUBELET_SKEW) < FIRST_NATIVE:
        said += (
            f"; its nodes may be of 1.{minor - KUBELET_SKEW} still, and have none before 1.29: --native-sidecars never "
            "until all of them are"
        )
    return SidecarKind(True, said)  # noqa: FBT003


def check_image(setting: str, text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][\w.:/@-]{0,511}", text, re.ASCII):
        raise ConfigurationError(
            f"{setting} is {text[:100]!r}: give the image of irsa-sidecar, as registry.example.com/irsa-sidecar:1.0."
        )
    return text


def check_region(setting: str, text: str) -> str:
    if not re.fullmatch(r"[a-z0-9-]{1,63}", text):
        raise ConfigurationError(f"{setting} is {text[:100]!r}: give an AWS region, as eu-west-1.")
    return text


def find_region(flag: str | None, environ: Mapping[str, str]) -> str:
    """The region of --region, else of AWS's variables. Raises ConfigurationError."""
    given = {"--region": flag} | {name: environ.get(name) for name in ("AWS_REGION", "AWS_DEFAULT_REGION")}
    for setting, region in given.items():
        if region:
            return check_region(setting, region)
    raise ConfigurationError("--region is not given, nor AWS_REGION set: name the region whose STS is to be asked.")


_SET_BY = {
    "AWS_REGION": "--region",
    "AWS_ROLE_ARN": f"a Pod the annotation {ROLE_ARN}",
    "AWS_ROLE_SESSION_NAME": f"a Pod the annotation {SESSION_NAME}",
    "IRSA_SIDECAR_CONFIG": f"a Pod the annotation {ROLES}",
    "IRSA_SIDECAR_DURATION": f"a Pod the annotation {DURATION}",
}
"""What to give in place of a variable that injection sets. The others build on each other, and nothing sets them."""


def check_variable(setting: str, text: str) -> tuple[str, str]:
    """NAME=VALUE, of a variable that injection does not set itself."""
    name, sign, value = text.partition("=")
    if not sign or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise ConfigurationError(f"{setting} is {name[:100]!r}: give a variable of the sidecar, as NAME=VALUE.")
    if name in OUR_VARIABLES:
        instead = f", and give {_SET_BY[name]}" if name in _SET_BY else ""
        raise ConfigurationError(f"{setting} sets {name}, which injection sets by itself: leave it out{instead}.")
    return name, value
