"""
Build the environment with which an application's SDK finds the daemon. Pure.

Rule: the host is 127.0.0.1, the only host that every SDK accepts over plain HTTP. The same secret is in a variable and
in a file, because some SDKs read only one of them. SDKs also differ in the order of the two.
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
Variables that some SDKs read before the container endpoint in their default chains.

They are removed, not emptied: the Rust SDK reads an empty AWS_WEB_IDENTITY_TOKEN_FILE as a file named "".
"""

_OURS = ("AWS_CONTAINER_", "IRSA_SIDECAR_")


class Offer(NamedTuple):
    """The endpoint for an application: its URL, the secret, the file with the secret, and the region if known."""

    url: str
    secret: str
    secret_file: str
    region: str | None


def client_variables(offer: Offer, no_proxy: str = "") -> dict[str, str]:
    """Return the variables to set. `no_proxy` is the list of the hosts that already bypass proxies."""
    exempt = with_loopback(no_proxy)
    variables = {
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": offer.url,
        "AWS_CONTAINER_AUTHORIZATION_TOKEN": offer.secret,
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": offer.secret_file,
        # If the endpoint fails, the Java SDK would use the node's role. Other SDKs use that role only without the
        # endpoint.
        "AWS_EC2_METADATA_DISABLED": "true",
        # Profiles in the home directory have a higher priority than the container endpoint in every SDK.
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_CONFIG_FILE": os.devnull,
        # The Rust SDK and object_store would send even loopback requests, with the secret, to HTTP_PROXY.
        "NO_PROXY": exempt,
        "no_proxy": exempt,
    }
    if offer.region:
        variables |= {"AWS_REGION": offer.region, "AWS_DEFAULT_REGION": offer.region}
    return variables


def client_environment(environ: Mapping[str, str], offer: Offer) -> dict[str, str]:
    """Return `environ` with the variables for the endpoint, and without variables that SDKs read before these."""
    kept = {name: value for name, value in environ.items() if name not in WINS_OVER_US and not name.startswith(_OURS)}
    return kept | client_variables(offer, environ.get("NO_PROXY") or environ.get("no_proxy") or "")


def with_loopback(no_proxy: str) -> str:
    """Return the list with 127.0.0.1. A lone `*` is not changed, because curl and Python ignore a `*` in a list."""
    names = [name.strip() for name in no_proxy.split(",")]
    return no_proxy if names == ["*"] or "127.0.0.1" in names else ",".join(filter(None, [no_proxy, "127.0.0.1"]))
