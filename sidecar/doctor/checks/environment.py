"""What in an application's environment would win over the sidecar, or is missing beside it. Pure."""

from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

from sidecar.addresses import is_loopback_host
from sidecar.doctor.finding import Check, Finding, ok, warning, wrong

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

ELSEWHERE = "(from elsewhere)"
"""In place of a value that a Secret, a ConfigMap or a field of the Pod gives, and the Pod's document does not show."""

TAKE_OUT = "Take it out of the application's container"


class EnvironmentFacts(NamedTuple):
    """
    The application's environment. `files` are AWS's configuration files that give the default profile credentials,
    each with the settings that do. `tokens` are web identity token files that its user can read. `unreadable` are
    configuration files that cannot be read, each with the problem.
    """

    environ: Mapping[str, str]
    files: tuple[tuple[str, tuple[str, ...]], ...] = ()
    has_region_file: bool = False
    tokens: tuple[str, ...] = ()
    unreadable: tuple[tuple[str, str], ...] = ()

    def named(self, *names: str) -> list[str]:
        """Which of these are set, and not to nothing."""
        return [name for name in names if self.environ.get(name)]


def _keys(facts: EnvironmentFacts) -> Finding:
    found = facts.named(*STATIC_KEYS)
    if found:
        return wrong(
            f"{found[0]} is set, and every SDK's default chain takes static keys before the sidecar's",
            f"Take {', '.join(found)} out of the application's container",
        )
    return ok("no static keys")


def _web_identity(facts: EnvironmentFacts) -> Finding:
    name = "AWS_WEB_IDENTITY_TOKEN_FILE"
    if facts.environ.get(name):
        return wrong(
            f"{name} is set, and nearly every SDK takes a web identity before the sidecar's endpoint",
            f"{TAKE_OUT}; where EKS's webhook puts it in, annotate the Pod with eks.amazonaws.com/skip-containers",
        )
    if name in facts.environ:
        return warning(f"{name} is set to nothing, which Rust's SDK takes for a file without a name", TAKE_OUT)
    return ok("no web identity")


def _profile(facts: EnvironmentFacts) -> Finding:
    found = facts.named(*PROFILES)
    if found:
        return wrong(
            f"{found[0]} is {facts.environ[found[0]]!r}, and a profile comes before the sidecar's endpoint", TAKE_OUT
        )
    return ok("no profile")


def _relative(facts: EnvironmentFacts) -> Finding | None:
    name = "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"
    if name not in facts.environ:
        return None
    if not facts.environ[name]:
        return warning(f"{name} is empty, which botocore uses as the address of the ECS agent", TAKE_OUT)
    return wrong(f"{name} is set, and SDKs take it before AWS_CONTAINER_CREDENTIALS_FULL_URI", TAKE_OUT)


def _files(facts: EnvironmentFacts) -> Finding:
    if facts.files:
        path, settings = facts.files[0]
        return wrong(
            f"{path} gives the default profile {', '.join(settings)}, which comes before the sidecar's endpoint",
            "Take the file out of the image, or set AWS_SHARED_CREDENTIALS_FILE and AWS_CONFIG_FILE to /dev/null",
        )
    if facts.unreadable:
        path, problem = facts.unreadable[0]
        return warning(
            f"{path} could not be checked for credentials: {problem}",
            "Make sure that its default profile has none, or set AWS_SHARED_CREDENTIALS_FILE and AWS_CONFIG_FILE to "
            "/dev/null",
        )
    return ok("no credentials in AWS's configuration files")


def _token(facts: EnvironmentFacts) -> Finding | None:
    if not facts.tokens:
        return None
    return warning(
        f"{facts.tokens[0]} can be read here: the application could trade the token for the role by itself",
        "Mount the token's volume in the sidecar's container only",
    )


def _region(facts: EnvironmentFacts) -> Finding:
    found = facts.named("AWS_REGION", "AWS_DEFAULT_REGION")
    if len(found) == 2 or facts.has_region_file:
        return ok(f"region {facts.environ.get('AWS_REGION') or 'from the configuration file'}")
    if found:
        other = {"AWS_REGION": "botocore reads AWS_DEFAULT_REGION", "AWS_DEFAULT_REGION": "others read AWS_REGION"}
        return warning(f"{found[0]} alone is set, and {other[found[0]]} alone", "Set AWS_REGION and AWS_DEFAULT_REGION")
    return warning(
        "AWS_REGION is not set: SDKs then refuse to call any regional service",
        "Set AWS_REGION and AWS_DEFAULT_REGION, as eu-west-1",
    )


def _metadata(facts: EnvironmentFacts) -> Finding:
    """The sidecar may stand in the metadata service's place, and then SDKs must be let go there."""
    where = facts.environ.get(METADATA_ENDPOINT, "")
    if is_own_form(facts.environ):
        if facts.environ.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true":
            return wrong(
                f"AWS_EC2_METADATA_DISABLED is true, so no SDK asks {METADATA_ENDPOINT}, which is {where}",
                "Take AWS_EC2_METADATA_DISABLED out of the application's container",
            )
        return ok(f"{METADATA_ENDPOINT} is {where}: the sidecar's own, and the node's is out of SDKs' way")
    if facts.environ.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true":
        return ok("AWS_EC2_METADATA_DISABLED is true: no SDK turns to the node's role")
    return warning(
        "AWS_EC2_METADATA_DISABLED is not true: when the endpoint fails, Java's SDK turns to the node's role",
        "Set AWS_EC2_METADATA_DISABLED to true",
    )


def _no_proxy(facts: EnvironmentFacts) -> Finding | None:
    proxies = facts.named(*PROXIES)
    if not proxies:
        return None
    value = facts.environ.get("NO_PROXY") or facts.environ.get("no_proxy") or ""
    exempt = [name.strip() for name in value.split(",")]
    if value == ELSEWHERE:
        return warning(
            f"{proxies[0]} is set, and the Pod's document does not show whether NO_PROXY has 127.0.0.1",
            "Check the Secret or ConfigMap that NO_PROXY comes from: its value must include 127.0.0.1",
        )
    if "127.0.0.1" in exempt or exempt == ["*"]:
        return ok("NO_PROXY has 127.0.0.1")
    return warning(
        f"{proxies[0]} is set, and NO_PROXY lacks 127.0.0.1: Rust's object_store sends the request, secret and all, "
        "through the proxy",
        "Add 127.0.0.1 to NO_PROXY",
    )


def is_own_form(environ: Mapping[str, str]) -> bool:
    """Whether credentials are to come in the form of EC2's metadata service, from the Pod's loopback."""
    try:
        return is_loopback_host(urlsplit(environ.get(METADATA_ENDPOINT, "")).hostname or "")
    except ValueError:
        return False


CHECKS: tuple[Check[EnvironmentFacts], ...] = (
    Check("keys", "would static keys win over the sidecar", _keys),
    Check("web_identity", "would a web identity win", _web_identity),
    Check("profile", "would a profile win", _profile),
    Check("relative_uri", "would an ECS address win", _relative),
    Check("files", "would AWS's configuration files win", _files),
    Check("token", "is the token kept from the application", _token),
    Check("region", "is there a region, by both names", _region),
    Check("metadata", "are SDKs kept from the node's role", _metadata),
    Check("no_proxy", "do SDKs reach loopback without a proxy", _no_proxy),
)
