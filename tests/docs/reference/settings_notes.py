"""Describe the values of each setting, and the variables of AWS and other programs that irsa-sidecar reads."""

from collections.abc import Mapping
from typing import NamedTuple


class SettingNote(NamedTuple):
    """
    The values that one setting accepts, and the information that a user needs to choose a value.

    A test passes `examples` and `rejected` to the setting's own parser.
    """

    values: str
    examples: tuple[str, ...]
    rejected: str
    details: str


NOTES: Mapping[str, SettingNote] = {
    "LISTEN": SettingNote(
        "`HOST:PORT` with a loopback IP address, or `localhost`",
        ("127.0.0.1:4772", "[::1]:4772", "localhost:4772", "127.0.0.1:0"),
        "example.com:4772",
        "The daemon listens on the same port of the other IP family too, so `localhost` works for every client. "
        "An address outside of loopback needs the flag --allow-non-loopback. With port 0, the daemon prints its URL on "
        "stdout.",
    ),
    "ADMIN_LISTEN": SettingNote(
        "`HOST:PORT` with an IP address, `:PORT` for every interface, or `off`",
        ("0.0.0.0:4773", ":4773", "127.0.0.1:4773", "off"),
        "4773",
        "The kubelet and Prometheus call this address from outside of the Pod. The command `irsa-sidecar probe` also "
        "needs this address, so an exec probe does not work with `off`.",
    ),
    "ADMIN_PAGE": SettingNote(
        "`on` or `off`",
        ("on", "off"),
        "yes",
        "The page shows the same as `/status`: text for curl, and HTML for browsers. With `off`, `/` returns a 404. "
        "`/status` still works. To close both to other Pods, set `IRSA_SIDECAR_ADMIN_LISTEN` to a loopback address, or "
        "use a network policy.",
    ),
    "AUTHORIZATION_TOKEN_FILE": SettingNote(
        "a path, in which the name of the role replaces `{role}`",
        ("/run/irsa-sidecar/token", "/run/irsa-sidecar/{role}/token"),
        "",
        "The file exists before the daemon accepts connections. At each start, the daemon replaces a secret that "
        "irsa-sidecar created. It keeps a secret from another source. When the file changes, the daemon reads it "
        "again. The file holds one line of at most 4096 visible ASCII characters.",
    ),
    "AUTHORIZATION_MODE": SettingNote(
        "`0600`, `0640` or `0644`",
        ("0600", "0640", "0644"),
        "0777",
        "Use 0644 if the application runs as another user and in another group than the sidecar. Every user can then "
        "read the file, so mount the volume only in the containers that may read the secret.",
    ),
    "DURATION": SettingNote(
        "whole seconds from 900 to 43200, or `max`",
        ("900", "3600", "43200", "max"),
        "60",
        "The role's maximum session duration must allow the value. With `max`, the daemon tries several durations "
        "until it has found the longest duration. The session of each step of a chain lasts at most 3600 seconds.",
    ),
    "CONFIG": SettingNote(
        "a path of a YAML file",
        ("/etc/irsa-sidecar/roles.yaml",),
        "",
        "With this setting, the daemon ignores AWS_ROLE_ARN. It reads the file again when the file changes, and on "
        "SIGHUP. "
        "[The roles file](roles-file.md) describes the keys.",
    ),
    "STS_FALLBACK_REGIONS": SettingNote(
        "region names separated by commas, in the partition of AWS_REGION",
        ("eu-central-1", "eu-central-1,eu-north-1"),
        "eu-central-1,,eu-north-1",
        "The daemon calls these regions after repeated network errors and errors of STS itself. It returns to "
        "`AWS_REGION` when the STS of that region works again. You cannot combine this setting with "
        "AWS_ENDPOINT_URL_STS.",
    ),
    "IMDS_LISTEN": SettingNote(
        "`HOST:PORT` with a loopback IP address, or `off`",
        ("127.0.0.1:4774", "off"),
        "on",
        "Every container of the Pod can get credentials of this role, because these clients send no secret. "
        "[Older clients](../older-clients.md) describes the clients that need this address.",
    ),
    "CREDENTIALS_FILE": SettingNote(
        "a path",
        ("/run/aws/credentials",),
        "",
        "The daemon replaces the file atomically after each refresh. The file does not contain roles that have "
        "`allow_uids`.",
    ),
    "STATE_DIR": SettingNote(
        "a path of a directory in memory (tmpfs)",
        ("/run/irsa-sidecar-state",),
        "",
        "After a restart of the process, the daemon serves the saved credentials and "
        "refreshes them at the planned time.",
    ),
    "STATE_ALLOW_DISK": SettingNote(
        "`true` or `false`",
        ("true", "false"),
        "yes",
        "Without this setting, the daemon rejects a directory that is not in memory.",
    ),
    "DRAIN_SECONDS": SettingNote(
        "whole seconds from 0 to 86400",
        ("0", "20"),
        "-1",
        "Set a value for an ordinary container, so that the application can finish its last "
        "requests. The value must be lower "
        "than `terminationGracePeriodSeconds` of the Pod. A second SIGTERM or SIGINT ends this time early.",
    ),
    "LOG_FORMAT": SettingNote(
        "`json` or `console`",
        ("json", "console"),
        "text",
        "`console` lines are for people, and `json` lines are for programs.",
    ),
    "LOG_LEVEL": SettingNote(
        "`debug`, `info`, `warning` or `error`",
        ("debug", "info", "warning", "error"),
        "warn",
        "With `warning`, the log does not show which clients got credentials. Denied requests and failed refreshes are "
        "logged as `warning`.",
    ),
}
"""The note about each of our settings, by the variable without the prefix."""


class Variable(NamedTuple):
    """A variable of another program: its name, its meaning, its default, and the commands that read it."""

    name: str
    meaning: str
    default: str
    readers: str = ""


OF_STS: tuple[Variable, ...] = (
    Variable("AWS_ROLE_ARN", "The role to assume with the token. A roles file replaces this variable.", "required"),
    Variable(
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "The file of the service account token.",
        "required, unless each role of the roles file has `token_file`",
    ),
    Variable(
        "AWS_ROLE_SESSION_NAME",
        "The session name: 2 to 64 ASCII letters, digits and `_+=,.@-`, or a template with `{namespace}`, "
        "`{service_account}`, `{pod}`, `{uid}` and `{role}`.",
        "`{namespace}.{pod}` of the token",
    ),
    Variable(
        "AWS_REGION",
        "The region whose STS the daemon calls, in any partition. The daemon needs a region, unless "
        "AWS_ENDPOINT_URL_STS is set and no role has a chain.",
        "the value of `AWS_DEFAULT_REGION`",
    ),
    Variable("AWS_DEFAULT_REGION", "The region if AWS_REGION is not set.", "none"),
    Variable(
        "AWS_ENDPOINT_URL_STS",
        "The URL of STS, for example of a VPC endpoint without private DNS.",
        "the value of `AWS_ENDPOINT_URL`",
    ),
    Variable("AWS_ENDPOINT_URL", "The URL of all services, if AWS_ENDPOINT_URL_STS is not set.", "none"),
    Variable(
        "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
        "With `true`, `AWS_ENDPOINT_URL_STS` and `AWS_ENDPOINT_URL` have no effect.",
        "`false`",
    ),
    Variable("AWS_USE_FIPS_ENDPOINT", "With `true`, the daemon calls the FIPS endpoint of STS.", "`false`"),
    Variable("AWS_USE_DUALSTACK_ENDPOINT", "With `true`, the daemon calls the dual-stack endpoint of STS.", "`false`"),
    Variable(
        "AWS_CA_BUNDLE",
        "A PEM file with the only authorities to trust, for STS and for an `https://` proxy. `run` reads the file "
        "again after each change.",
        "public authorities",
    ),
    Variable(
        "AWS_SDK_UA_APP_ID",
        "The name of the application. The User-Agent contains it as `app/NAME`, so CloudTrail shows the name.",
        "none",
    ),
    Variable("POD_NAMESPACE", "The value of `{namespace}` in a session name, if the token lacks it.", "none"),
    Variable("POD_SERVICE_ACCOUNT", "The value of `{service_account}`, if the token lacks it.", "none"),
    Variable("POD_NAME", "The value of `{pod}`, if the token lacks it.", "none"),
    Variable("POD_UID", "The value of `{uid}`, if the token lacks it.", "none"),
)
"""The variables that set the role, the token file and the address of STS. A test compares them with `run`."""

OF_THE_NETWORK: tuple[Variable, ...] = (
    Variable(
        "HTTPS_PROXY",
        "The proxy to STS, as `http://HOST:PORT` or `https://HOST:PORT`. The URL may contain a user and a password in "
        "percent-encoding.",
        "none",
    ),
    Variable(
        "NO_PROXY",
        "Host names separated by commas. Each entry matches the host with this name and all its subdomains.",
        "none",
    ),
    Variable(
        "SSL_CERT_FILE",
        "A PEM file with authorities. The variable has no effect if AWS_CA_BUNDLE is set or certifi is installed.",
        "the authorities of the system",
    ),
)
"""The variables that Python's own modules read. The proxy variables also work in lower case."""

OF_COMMANDS: tuple[Variable, ...] = (
    Variable(
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        "The URL of the daemon, which must be on this machine.",
        "`IRSA_SIDECAR_LISTEN`",
        "`credentials`, `doctor`",
    ),
    Variable(
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
        "The file of the secret that the daemon expects.",
        "`AWS_CONTAINER_AUTHORIZATION_TOKEN`",
        "`credentials`, `doctor`",
    ),
    Variable(
        "AWS_CONTAINER_AUTHORIZATION_TOKEN",
        "The secret that the daemon expects.",
        "none",
        "`credentials`, `doctor`",
    ),
    Variable(
        "AWS_PROFILE", "The profile with the credentials for AWS.", "`default`", "`setup`, `audit`, `who`, `doctor`"
    ),
    Variable("AWS_ENDPOINT_URL_IAM", "The URL of IAM.", "`AWS_ENDPOINT_URL`", "`setup`, `audit`, `doctor`"),
    Variable("KUBECONFIG", "The kubeconfig file.", "`~/.kube/config`", "`setup`, `audit`, `doctor`, `webhook`"),
    Variable("XDG_CACHE_HOME", "The folder for the keys of issuers.", "`~/.cache`", "`token`, `setup`"),
    Variable(
        "XDG_RUNTIME_DIR",
        "The private folder for the lock and the log of a background process.",
        "the folder of `TMPDIR`",
        "`local`",
    ),
    Variable("TMPDIR", "The folder for temporary files, such as the secret.", "`/tmp`", "`exec`, `local`"),
    Variable("NO_COLOR", "With any value, output has no colours.", "none", "`doctor`, `run`, `exec`, `local`"),
    Variable("TERM", "With `dumb`, output has no colours.", "none", "`doctor`, `run`, `exec`, `local`"),
    Variable("COLUMNS", "The width of help texts.", "the width of the terminal", "every command"),
)
"""The variables that only some commands read."""
