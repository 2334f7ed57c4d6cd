"""
Build the environment with which an application's SDK finds the daemon. Pure.

Rule: the host is 127.0.0.1, the only one that every SDK accepts over plain HTTP. The secret is both in a variable and
in a file, with the same value: some SDKs read only one of them, and they differ in which one wins.
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
"""
Variables that the default chain of some SDK reads before the container endpoint.

They are removed, not emptied: the Rust SDK reads an empty AWS_WEB_IDENTITY_TOKEN_FILE as a file named "".
"""

_OURS = ("AWS_CONTAINER_", "IRSA_SIDECAR_")


class Offer(NamedTuple):
    """The endpoint for an application: its URL, the secret, the file with the same secret, and the region if known."""

    url: str
    secret: str
    secret_file: str
    region: str | None


def client_variables(offer: Offer, no_proxy: str = "") -> dict[str, str]:
    """Return the variables to set. `no_proxy` lists the hosts that are already exempt from proxies."""
    exempt = with_loopback(no_proxy)
    variables = {
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": offer.url,
        "AWS_CONTAINER_AUTHORIZATION_TOKEN": offer.secret,
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": offer.secret_file,
        # If the endpoint fails, the Java SDK uses the node's role. Other SDKs do if the endpoint is not configured.
        "AWS_EC2_METADATA_DISABLED": "true",
        # Profiles in the home directory come before the container endpoint in every chain.
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_CONFIG_FILE": os.devnull,
        # The Rust SDK and object_store send even loopback requests, with the secret, through HTTP_PROXY.
        "NO_PROXY": exempt,
        "no_proxy": exempt,
    }
    if offer.region:
        variables |= {"AWS_REGION": offer.region, "AWS_DEFAULT_REGION": offer.region}
    return variables


def client_environment(environ: Mapping[str, str], offer: Offer) -> dict[str, str]:
    """Return `environ` without the variables that win over the endpoint, and with the variables of the endpoint."""
    kept = {name: value for name, value in environ.items() if name not in WINS_OVER_US and not name.startswith(_OURS)}
    return kept | client_variables(offer, environ.get("NO_PROXY") or environ.get("no_proxy") or "")


def with_loopback(no_proxy: str) -> str:
    """Return the list with 127.0.0.1. A `*` stays alone, because only then curl and Python read it as all hosts."""
    names = [name.strip() for name in no_proxy.split(",")]
    return no_proxy if names == ["*"] or "127.0.0.1" in names else ",".join(filter(None, [no_proxy, "127.0.0.1"]))
