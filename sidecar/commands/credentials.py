"""
Print credentials from the running daemon or from STS, for `credential_process` or for a shell.

The command calls the daemon at AWS_CONTAINER_CREDENTIALS_FULL_URI if that address is on this machine, else at
IRSA_SIDECAR_LISTEN or 127.0.0.1:4772. It calls STS only for the role of AWS_ROLE_ARN, and only if no daemon runs
there or --no-daemon is set.
"""

import argparse
import json
import os
import re
import shlex
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

from sidecar.addresses import format_address, is_loopback, parse_address
from sidecar.client.request import Response, get, reachable
from sidecar.client.shell_lines import failing_visibly
from sidecar.config.settings import PREFIX
from sidecar.errors import ConfigurationError, SidecarError
from sidecar.files import read_regular_file
from sidecar.redaction import HIDDEN
from sidecar.role import CREDENTIALS_PATH, DEFAULT_ROLE

EXAMPLE = """\
example, in ~/.aws/config:
  [profile app]
  credential_process = irsa-sidecar credentials
  [profile reporting]
  credential_process = irsa-sidecar credentials --role reporting

and in a shell:
  eval "$(irsa-sidecar credentials --format env)\""""

TOTAL_SECONDS = 15.0
"""Deadline for the whole command. SDKs wait for a credential_process for a minute, or without a limit."""

SILENT_DAEMON_SECONDS = 2.0
"""
Deadline for a response from the daemon, which needs at most 0.8 s.

After the deadline, the command assumes that no daemon runs.
"""

EMPTY_DAEMON_SECONDS = 5.0
"""Time for which the command retries, once a second, while the daemon has no credentials."""

FULL_URI = "AWS_CONTAINER_CREDENTIALS_FULL_URI"
LISTEN = f"{PREFIX}LISTEN"
SECRET_FILE = f"{PREFIX}AUTHORIZATION_TOKEN_FILE"
CLIENT_SECRET_FILE, CLIENT_SECRET = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "AWS_CONTAINER_AUTHORIZATION_TOKEN"

Credentials = Mapping[str, str]
"""The credentials in a response, with the daemon's names: AccessKeyId, SecretAccessKey, Token, Expiration and more."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--role", metavar="NAME", help="one of the daemon's roles, instead of the default")
    parser.add_argument(
        "--format", choices=sorted(_FORMATS), default="json", help="json for credential_process, env for a shell"
    )
    parser.add_argument("--no-daemon", action="store_true", help="call STS even if a daemon is running")


def guard(arguments: Sequence[str]) -> AbstractContextManager[None]:
    """Return a context that makes a failure visible to the shell that evaluates the output of `--format env`."""
    is_evaluated = any(text in {"env", "--format=env"} for text in arguments)
    return failing_visibly("irsa-sidecar credentials") if is_evaluated else nullcontext()


def main(args: argparse.Namespace) -> int:
    deadline_at = time.monotonic() + TOTAL_SECONDS
    if args.no_daemon and args.role is not None:
        raise ConfigurationError(
            f"--role is {args.role!r}, a name that only the daemon knows",
            fix="Remove either --no-daemon or --role",
            setting="--role",
        )
    credentials = None
    if not args.no_daemon:
        daemon = _find_daemon(os.environ, args.role)
        credentials = _fetch_from_daemon(daemon, os.environ)
        if credentials is None:
            _check_that_sts_may_be_called(daemon, os.environ)
    if credentials is None:
        credentials = _fetch_from_sts(os.environ, max(deadline_at - time.monotonic(), 0.0))
    print(_FORMATS[args.format](credentials))
    return 0


# The daemon


class _Daemon(NamedTuple):
    """The daemon to call. `secret_settings` name the settings that may hold its secret. `role_name` is from --role."""

    address: tuple[str, int]
    path: str
    secret_settings: tuple[str, ...]
    role_name: str | None

    def __str__(self) -> str:
        return f"the daemon on {format_address(*self.address)}"


def _find_daemon(environ: Mapping[str, str], role_name: str | None) -> _Daemon:
    """
    Return the daemon that the SDKs in this environment call, or the daemon at IRSA_SIDECAR_LISTEN.

    A daemon on another machine is ignored. The secret in AWS_CONTAINER_AUTHORIZATION_TOKEN is sent only to
    AWS_CONTAINER_CREDENTIALS_FULL_URI, which may belong to another agent.

    Raises ConfigurationError if a setting is invalid.
    """
    path = None if role_name is None else _path_of(role_name)
    target = _loopback_uri(environ.get(FULL_URI, ""))
    if target is not None:
        return _Daemon(target[0], path or target[1], (CLIENT_SECRET_FILE, CLIENT_SECRET, SECRET_FILE), role_name)
    address = reachable(parse_address(LISTEN, environ.get(LISTEN) or "127.0.0.1:4772"))
    return _Daemon(address, path or CREDENTIALS_PATH, (SECRET_FILE,), role_name)


def _path_of(role_name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}", role_name):
        raise ConfigurationError(
            f"--role is {role_name!r}, which is not the name of a role",
            fix="Use the name of one of the daemon's roles, such as reporting",
            setting="--role",
        )
    return CREDENTIALS_PATH if role_name == DEFAULT_ROLE else f"{CREDENTIALS_PATH}/{role_name}"


def _loopback_uri(uri: str) -> tuple[tuple[str, int], str] | None:
    """Return the address and the path of a plain HTTP URI on this machine, or None for any other URI."""
    parts = re.fullmatch(r"http://([^/?#@]+)(/[!-\"$-~]*)?", uri)
    if parts is None:
        return None
    host_and_port = parts[1] if re.search(r":[0-9]+\Z", parts[1]) else f"{parts[1]}:80"
    try:
        address = parse_address(FULL_URI, host_and_port)
    except ConfigurationError:
        return None
    return (address, parts[2] or "/") if is_loopback(address[0]) else None


def _fetch_from_daemon(daemon: _Daemon, environ: Mapping[str, str]) -> Credentials | None:
    """
    Return the daemon's credentials, or None if no daemon responds.

    While the daemon has no credentials (503), retry for EMPTY_DAEMON_SECONDS.

    Raises SidecarError with the daemon's message if the daemon returns an error.
    """
    secret_setting, secret = _secret(daemon.secret_settings, environ)
    give_up_at = time.monotonic() + EMPTY_DAEMON_SECONDS
    while True:
        try:
            response = get(daemon.address, daemon.path, SILENT_DAEMON_SECONDS, authorization=secret)
        except OSError:
            return None
        if response.status != 503 or time.monotonic() + 1.0 > give_up_at:
            return _credentials_in(_without(secret, response), daemon, secret_setting, environ.get("AWS_ROLE_ARN"))
        time.sleep(1.0)  # the Retry-After header


def _without(secret: str | None, response: Response) -> Response:
    """Return the response without our secret, because another program on the port may repeat it in its error."""
    if response.status == 200 or not secret:
        return response
    return response._replace(body=response.body.replace(secret.encode("ascii"), HIDDEN.encode("ascii")))


def _secret(settings: tuple[str, ...], environ: Mapping[str, str]) -> tuple[str | None, str | None]:
    """
    Return the setting with the secret, and the secret. Both are None if none of the settings has a value.

    Raises ConfigurationError if the secret cannot be read or sent.
    """
    for setting in settings:
        value = environ.get(setting)
        if value:
            text = _read_secret(setting, value) if setting.endswith("_FILE") else value
            if not re.fullmatch(r"[ -~]{1,4096}", text):
                raise ConfigurationError(
                    f"{setting} holds a secret that cannot be sent",
                    fix="Write the secret as one line of at most 4096 visible ASCII characters",
                    setting=setting,
                )
            return setting, text
    return None, None


def _read_secret(setting: str, path: str) -> str:
    try:
        content = read_regular_file(path, 4097)
    except OSError as exc:
        raise ConfigurationError(
            f"{setting} is {path}, which cannot be read ({exc.strerror or exc})",
            fix=f"Let uid {os.geteuid()} read the file, or unset {setting} if the daemon requires no secret",
            setting=setting,
        ) from exc
    return (content or b"").strip().decode("latin-1")


def _credentials_in(
    response: Response, daemon: _Daemon, secret_setting: str | None, role_arn: str | None
) -> Credentials:
    """
    Return the credentials in the response.

    Raises SidecarError if the response contains no credentials.
    """
    body = _object(response.body)
    if response.status == 200:
        return _checked(body, daemon, role_arn)
    message = body.get("message") or f"the response has the status {response.status}"
    if response.status == 401 and secret_setting is None:
        raise ConfigurationError(
            f"{daemon} requires its secret",
            fix=f"Set {daemon.secret_settings[0]} to the path of the file with the secret",
            setting=daemon.secret_settings[0],
        )
    if response.status == 404 and daemon.role_name is not None:
        raise ConfigurationError(
            f"{daemon} has no role {daemon.role_name!r}",
            fix="Set --role to one of the roles that the daemon serves",
            setting="--role",
        )
    if response.status in {401, 403, 404}:
        sent = f" to the secret of {secret_setting}" if secret_setting else ""
        raise ConfigurationError(f"{daemon} responds{sent}: {message}")
    raise SidecarError(f"{daemon}: {message}")


def _object(body: bytes) -> Mapping[str, Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _checked(body: Mapping[str, Any], daemon: _Daemon, role_arn: str | None) -> Credentials:
    """
    Return the body if it holds credentials. Without --role, they must be credentials of the role in AWS_ROLE_ARN.

    Raises SidecarError if the body has another form, and ConfigurationError if the credentials are of another role.
    """
    names = ("AccessKeyId", "SecretAccessKey", "Token", "Expiration", "AccountId", "RoleArn")
    if not all(isinstance(body.get(name), str) and re.fullmatch("[!-~]+", body[name]) for name in names):
        problem = f"{daemon} responds with something other than credentials"
        raise SidecarError(problem, fix="Check that irsa-sidecar listens there")
    if role_arn and daemon.role_name is None and body["RoleArn"] != role_arn:
        raise ConfigurationError(
            f"AWS_ROLE_ARN is {role_arn}, and {daemon} serves {body['RoleArn']}",
            fix="Choose a role with --role NAME or --no-daemon, or unset AWS_ROLE_ARN",
            setting="AWS_ROLE_ARN",
        )
    return body


# STS


def _check_that_sts_may_be_called(daemon: _Daemon, environ: Mapping[str, str]) -> None:
    """Raise SidecarError if only the daemon may know the requested role, or if no variable names a role or a token."""
    names_the_role = environ.get("AWS_ROLE_ARN") or environ.get("AWS_WEB_IDENTITY_TOKEN_FILE")
    if daemon.role_name is not None or environ.get(f"{PREFIX}CONFIG") or not names_the_role:
        raise SidecarError(
            f"{daemon} does not respond",
            fix=(
                f"Start `irsa-sidecar run`, or set {LISTEN} to its address. Without a daemon, STS is called only for "
                "the role of AWS_ROLE_ARN, with the token in AWS_WEB_IDENTITY_TOKEN_FILE"
            ),
        )


def _fetch_from_sts(environ: Mapping[str, str], seconds: float) -> Credentials:
    """
    Return the credentials from one exchange.

    Raises SidecarError if the exchange fails.
    """
    import trio  # noqa: PLC0415  half a second of imports, only if no daemon is running

    from sidecar.client.exchange import exchange_once  # noqa: PLC0415

    async def once() -> Credentials:
        with trio.move_on_after(seconds):
            credentials = await exchange_once(environ)
            return {
                "AccessKeyId": credentials.access_key_id,
                "SecretAccessKey": credentials.secret_access_key,
                "Token": credentials.session_token,
                "Expiration": credentials.expiration,
                "AccountId": credentials.account_id,
            }
        raise SidecarError(
            f"no credentials within {TOTAL_SECONDS:.0f} s",
            fix="Run `irsa-sidecar doctor` to check the network path to STS",
        )

    return trio.run(once)


# Output


def _as_json(credentials: Credentials) -> str:
    """Return the JSON for a credential_process (AWS SDK reference, Version 1). Newer SDKs also read AccountId."""
    return json.dumps(
        {
            "Version": 1,
            "AccessKeyId": credentials["AccessKeyId"],
            "SecretAccessKey": credentials["SecretAccessKey"],
            "SessionToken": credentials["Token"],
            "Expiration": credentials["Expiration"],
            "AccountId": credentials["AccountId"],
        },
        indent=2,
    )


def _as_shell(credentials: Credentials) -> str:
    variables = {
        "AWS_ACCESS_KEY_ID": credentials["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": credentials["SecretAccessKey"],
        "AWS_SESSION_TOKEN": credentials["Token"],
        "AWS_CREDENTIAL_EXPIRATION": credentials["Expiration"],
    }
    return "\n".join(f"export {name}={shlex.quote(value)}" for name, value in variables.items())


_FORMATS = {"json": _as_json, "env": _as_shell}
