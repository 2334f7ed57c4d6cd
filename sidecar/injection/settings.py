"""What is the same for every Pod: what the operator of the webhook, or whoever runs `setup pod`, says."""

import re
from collections.abc import Mapping
from typing import NamedTuple

from sidecar.errors import ConfigurationError
from sidecar.injection.names import Document

FIRST_NATIVE = (1, 29)
"""Kubernetes from which init containers may have restartPolicy: Always without a feature gate."""


class ServiceAccount(NamedTuple):
    """What is known of a Pod's."""

    namespace: str
    name: str
    annotations: dict[str, str]


class Settings(NamedTuple):
    """`is_native`: the cluster has native sidecars. `role_arn` holds where a Pod and its ServiceAccount name none."""

    image: str
    region: str
    is_native: bool = True
    role_arn: str | None = None
    environment: tuple[tuple[str, str], ...] = ()
    """More variables for the sidecar: proxies, FIPS, fallback regions."""


def has_native_sidecars(version: Document) -> bool:
    """By what /version answers: `{"major": "1", "minor": "29+", …}`."""
    numbers = tuple(int(re.match(r"\d+", str(version[part]))[0]) for part in ("major", "minor"))  # type: ignore[index]
    return numbers >= FIRST_NATIVE


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
    region = flag or environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION")
    if not region:
        raise ConfigurationError("--region is not given, nor AWS_REGION set: name the region whose STS is to be asked.")
    return check_region("--region", region)


def check_variable(setting: str, text: str) -> tuple[str, str]:
    """NAME=VALUE, of a variable that injection does not set itself."""
    from sidecar.injection.added import OUR_VARIABLES  # noqa: PLC0415  it builds on this module

    name, sign, value = text.partition("=")
    if not sign or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise ConfigurationError(f"{setting} is {name[:100]!r}: give a variable of the sidecar, as NAME=VALUE.")
    if name in OUR_VARIABLES:
        raise ConfigurationError(
            f"{setting} sets {name}, which injection sets by itself: leave it out; annotations of the Pod change it."
        )
    return name, value
