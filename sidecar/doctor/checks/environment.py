"""Find settings in an application's environment that override the sidecar, and settings that are missing. Pure."""

from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

from sidecar.addresses import is_loopback_host
from sidecar.doctor.finding import Check, Finding, failed, ok, warning

STATIC_KEYS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_ACCESS_KEY",
    "AWS_SECRET_KEY",
    "AWS_SECURITY_TOKEN",
)
PROFILES = ("AWS_PROFILE", "AWS_DEFAULT_PROFILE")
PROXIES = ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")

METADATA_ENDPOINT = "AWS_EC2_METADATA_SERVICE_ENDPOINT"

VALUE_NOT_SHOWN = "(from elsewhere)"
"""Placeholder for a value from a Secret, a ConfigMap or a Pod field. The Pod's document does not show such a value."""

REMOVE = "Remove it from the application's container"


class EnvironmentFacts(NamedTuple):
    """
    The application's environment.

    `files` are AWS configuration files with credentials for the default profile, each with the settings that provide
    them. `has_region_file` is true if a default profile sets the region. `tokens` are web identity token files that the
    application's user can read. `unreadable` lists configuration files that cannot be read, each with the problem.
    """

    environ: Mapping[str, str]
    files: tuple[tuple[str, tuple[str, ...]], ...] = ()
    has_region_file: bool = False
    tokens: tuple[str, ...] = ()
    unreadable: tuple[tuple[str, str], ...] = ()

    def named(self, *names: str) -> list[str]:
        """Return the names whose variables are set and not empty."""
        return [name for name in names if self.environ.get(name)]


def _keys(facts: EnvironmentFacts) -> Finding:
    found = facts.named(*STATIC_KEYS)
    if found:
        return failed(
            f"{found[0]} is set, and every SDK's default chain uses static keys before the sidecar's credentials",
            f"Remove {', '.join(found)} from the application's container",
        )
    return ok("no static keys")


def _web_identity(facts: EnvironmentFacts) -> Finding:
    name = "AWS_WEB_IDENTITY_TOKEN_FILE"
    if facts.environ.get(name):
        return failed(
            f"{name} is set, and nearly every SDK uses a web identity before the sidecar's endpoint",
            f"{REMOVE}. If Amazon's webhook adds it, annotate the Pod with eks.amazonaws.com/skip-containers",
        )
    if name in facts.environ:
        return warning(f"{name} is empty: Rust's SDK tries to open a file with an empty name", REMOVE)
    return ok("no web identity")


def _profile(facts: EnvironmentFacts) -> Finding:
    found = facts.named(*PROFILES)
    if found:
        return failed(
            f"{found[0]} is {facts.environ[found[0]]!r}, and SDKs use a profile before the sidecar's endpoint", REMOVE
        )
    return ok("no profile")


def _relative(facts: EnvironmentFacts) -> Finding | None:
    name = "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"
    if name not in facts.environ:
        return None
    if not facts.environ[name]:
        return warning(f"{name} is empty, which botocore uses as the address of the ECS agent", REMOVE)
    return failed(f"{name} is set, and SDKs use it before AWS_CONTAINER_CREDENTIALS_FULL_URI", REMOVE)


def _files(facts: EnvironmentFacts) -> Finding:
    if facts.files:
        path, settings = facts.files[0]
        return failed(
            f"{path} sets {', '.join(settings)} in the default profile, which SDKs use before the sidecar's endpoint",
            "Remove the file from the image, or set AWS_SHARED_CREDENTIALS_FILE and AWS_CONFIG_FILE to /dev/null",
        )
    if facts.unreadable:
        path, problem = facts.unreadable[0]
        return warning(
            f"{path} could not be checked for credentials: {problem}",
            "Make sure that its default profile has no credentials, or set AWS_SHARED_CREDENTIALS_FILE and "
            "AWS_CONFIG_FILE to /dev/null",
        )
    return ok("no credentials in AWS's configuration files")


def _token(facts: EnvironmentFacts) -> Finding | None:
    if not facts.tokens:
        return None
    return warning(
        f"{facts.tokens[0]} can be read here: the application could exchange the token for the role's credentials",
        "Mount the token's volume only in the sidecar's container",
    )


def _region(facts: EnvironmentFacts) -> Finding:
    found = facts.named("AWS_REGION", "AWS_DEFAULT_REGION")
    if len(found) == 2 or facts.has_region_file:
        return ok(f"region {facts.environ.get('AWS_REGION') or 'from the configuration file'}")
    if found:
        other = {
            "AWS_REGION": "botocore reads only AWS_DEFAULT_REGION",
            "AWS_DEFAULT_REGION": "other SDKs read only AWS_REGION",
        }
        return warning(f"only {found[0]} is set: {other[found[0]]}", "Set AWS_REGION and AWS_DEFAULT_REGION")
    return warning(
        "AWS_REGION is not set: SDKs cannot call regional services",
        "Set AWS_REGION and AWS_DEFAULT_REGION, for example to eu-west-1",
    )


def _metadata(facts: EnvironmentFacts) -> Finding:
    """Check that SDKs do not use the node's metadata service: the sidecar replaces it, or a variable disables it."""
    address = facts.environ.get(METADATA_ENDPOINT, "")
    if uses_imds_form(facts.environ):
        if facts.environ.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true":
            return failed(
                f"AWS_EC2_METADATA_DISABLED is true, so no SDK calls {METADATA_ENDPOINT}, which is {address}",
                "Remove AWS_EC2_METADATA_DISABLED from the application's container",
            )
        return ok(f"{METADATA_ENDPOINT} is {address}, the sidecar: SDKs do not use the node's metadata service")
    if facts.environ.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true":
        return ok("AWS_EC2_METADATA_DISABLED is true: no SDK uses the node's role")
    return warning(
        "AWS_EC2_METADATA_DISABLED is not true: when the endpoint fails, Java's SDK uses the node's role",
        "Set AWS_EC2_METADATA_DISABLED to true",
    )


def _no_proxy(facts: EnvironmentFacts) -> Finding | None:
    proxies = facts.named(*PROXIES)
    if not proxies:
        return None
    value = facts.environ.get("NO_PROXY") or facts.environ.get("no_proxy") or ""
    exempt = [name.strip() for name in value.split(",")]
    if value == VALUE_NOT_SHOWN:
        return warning(
            f"{proxies[0]} is set, and the Pod's document does not show whether NO_PROXY includes 127.0.0.1",
            "Check the Secret or ConfigMap that NO_PROXY comes from: its value must include 127.0.0.1",
        )
    if "127.0.0.1" in exempt or exempt == ["*"]:
        return ok("NO_PROXY includes 127.0.0.1")
    return warning(
        f"{proxies[0]} is set, and NO_PROXY lacks 127.0.0.1: Rust's object_store sends the request with the "
        "secret through the proxy",
        "Add 127.0.0.1 to NO_PROXY",
    )


def uses_imds_form(environ: Mapping[str, str]) -> bool:
    """Return whether SDKs are configured to call the EC2 metadata service on a loopback address."""
    try:
        return is_loopback_host(urlsplit(environ.get(METADATA_ENDPOINT, "")).hostname or "")
    except ValueError:
        return False


CHECKS: tuple[Check[EnvironmentFacts], ...] = (
    Check("keys", "do static keys override the sidecar", _keys),
    Check("web_identity", "does a web identity override the sidecar", _web_identity),
    Check("profile", "does a profile override the sidecar", _profile),
    Check("relative_uri", "does an ECS address override the sidecar", _relative),
    Check("files", "do AWS's configuration files override the sidecar", _files),
    Check("token", "is the token hidden from the application", _token),
    Check("region", "is the region set, under both names", _region),
    Check("metadata", "do the variables prevent the use of the node's role", _metadata),
    Check("no_proxy", "do SDKs reach loopback without a proxy", _no_proxy),
)
