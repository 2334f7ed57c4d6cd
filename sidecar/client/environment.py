"""
What an application's environment must hold, and must not, so that its SDK comes to us. Pure.

The one host spelling that every SDK takes over plain HTTP is 127.0.0.1. The secret goes in both forms, variable
and file, and equal: some SDKs know only the one, some only the other, and they differ in which wins.
"""

import os
from collections.abc import Mapping
from typing import NamedTuple

WINS_OVER_US = (
    "AWS_ACCESS_KEY",
    "AWS_ACCESS_KEY_ID",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CREDENTIAL_EXPIRATION",
    "AWS_DEFAULT_PROFILE",
    "AWS_PROFILE",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SECRET_KEY",
    "AWS_SECURITY_TOKEN",
    "AWS_SESSION_TOKEN",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
)
"""Every SDK's default chain asks these before the container endpoint. They are taken out and not emptied: to the
Rust SDK an empty AWS_WEB_IDENTITY_TOKEN_FILE is a file named ""."""

_OURS = ("AWS_CONTAINER_", "IRSA_SIDECAR_")


class Offer(NamedTuple):
    """Where the credentials are to be had: the URL, the secret, the file that holds it too, the region if known."""

    url: str
    secret: str
    secret_file: str
    region: str | None


def client_variables(offer: Offer, no_proxy: str = "") -> dict[str, str]:
    """The variables to set; `no_proxy` is what was exempt from proxies before."""
    exempt = with_loopback(no_proxy)
    variables = {
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": offer.url,
        "AWS_CONTAINER_AUTHORIZATION_TOKEN": offer.secret,
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": offer.secret_file,
        # The Java SDK turns to the node's role when the endpoint fails; others when it is not configured.
        "AWS_EC2_METADATA_DISABLED": "true",
        # Profiles in the home directory come before the container endpoint in every chain.
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_CONFIG_FILE": os.devnull,
        # Rust's SDK and object_store send even loopback requests, secret and all, through HTTP_PROXY.
        "NO_PROXY": exempt,
        "no_proxy": exempt,
    }
    if offer.region:
        variables |= {"AWS_REGION": offer.region, "AWS_DEFAULT_REGION": offer.region}
    return variables


def client_environment(environ: Mapping[str, str], offer: Offer) -> dict[str, str]:
    """The whole environment of an application: what it had, less what would win over us, and our variables."""
    kept = {name: value for name, value in environ.items() if name not in WINS_OVER_US and not name.startswith(_OURS)}
    return kept | client_variables(offer, environ.get("NO_PROXY") or environ.get("no_proxy") or "")


def with_loopback(no_proxy: str) -> str:
    """The list with 127.0.0.1 in it. A lone `*` exempts everything, and to curl and Python only when it is alone."""
    names = [name.strip() for name in no_proxy.split(",")]
    return no_proxy if names == ["*"] or "127.0.0.1" in names else ",".join(filter(None, [no_proxy, "127.0.0.1"]))
