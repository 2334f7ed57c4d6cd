"""
An application's environment, and AWS's configuration files that its SDK would read.

Only regular files of a sensible size are read: a FIFO or a device at the path must not hold doctor up.
"""

import configparser
import os
from collections.abc import Mapping, Sequence

from sidecar.daemon.credentials_file import HEADER
from sidecar.doctor.checks.environment import EnvironmentFacts
from sidecar.files import read_regular_file

TOKEN_FILES = (
    "/var/run/secrets/eks.amazonaws.com/serviceaccount/token",
    "/var/run/secrets/irsa-sidecar/token",
)
"""Where the EKS webhook and our manifests mount it."""

_CREDENTIALS = (
    "aws_access_key_id",
    "credential_process",
    "web_identity_token_file",
    "sso_session",
    "sso_start_url",
    "login_session",
    "role_arn",
)
"""Settings of a profile that give credentials (AWS SDK and Tools reference)."""

MAX_CONFIGURATION_BYTES = 1024 * 1024
"""A configuration file of AWS has some hundred lines."""

_FILES = (("AWS_SHARED_CREDENTIALS_FILE", "credentials"), ("AWS_CONFIG_FILE", "config"))


def look(environ: Mapping[str, str], token_files: Sequence[str] = TOKEN_FILES) -> EnvironmentFacts:
    """Read the files that AWS's SDKs would read. Raises nothing; it may block, so call it in a thread."""
    read = [(path, *_default_profile(path)) for path in _paths(environ)]
    profiles = [(path, profile) for path, profile, _ in read]
    unreadable = tuple((path, problem) for path, _, problem in read if problem)
    giving = [(path, tuple(name for name in _CREDENTIALS if name in profile)) for path, profile in profiles]
    files = tuple(
        (path, names)
        for (path, names), (_, profile) in zip(giving, profiles, strict=True)
        # A role on top of the container's credentials is on top of ours, and so is a file that the daemon keeps.
        if names and profile.get("credential_source", "").lower() != "ecscontainer" and not _is_ours(path)
    )
    has_region_file = any("region" in profile for _, profile in profiles)
    tokens = tuple(path for path in token_files if os.access(path, os.R_OK))
    return EnvironmentFacts(environ, files, has_region_file, tokens, unreadable)


def _paths(environ: Mapping[str, str]) -> list[str]:
    home = environ.get("HOME", "")
    found = []
    for variable, name in _FILES:
        path = environ.get(variable) or (os.path.join(home, ".aws", name) if home else "")
        if path:
            found.append(path.replace("~", home, 1) if path.startswith("~") else path)
    return found


def _is_ours(path: str) -> bool:
    """Written by the daemon, as IRSA_SIDECAR_CREDENTIALS_FILE says."""
    try:
        return (read_regular_file(path, len(HEADER)) or b"") == HEADER.encode()
    except OSError:
        return False


def _default_profile(path: str) -> tuple[Mapping[str, str], str]:
    """Return the settings of the default profile, and what is wrong with the file. A missing file is an empty one."""
    try:
        content = read_regular_file(path, MAX_CONFIGURATION_BYTES + 1)
    except FileNotFoundError:
        return {}, ""
    except (OSError, ValueError) as exc:
        return {}, getattr(exc, "strerror", None) or "the path is not one that a file can have"
    if content is None:
        return {}, "" if path == os.devnull else "it is not a regular file"
    if len(content) > MAX_CONFIGURATION_BYTES:
        return {}, f"it is over {MAX_CONFIGURATION_BYTES // 1024} KiB"
    return _parsed(content.decode("utf-8", "replace"))


def _parsed(text: str) -> tuple[Mapping[str, str], str]:
    parser = configparser.RawConfigParser(strict=False, default_section="", allow_no_value=True)
    try:
        parser.read_string(text)
    except configparser.Error:
        return {}, "it is not a configuration file"
    except Exception:  # noqa: BLE001  configparser has bugs of its own: AttributeError for some continuation lines
        return {}, "Python's configuration parser fails on it"
    for section in ("default", "profile default"):
        if parser.has_section(section):
            return {name: value or "" for name, value in parser.items(section)}, ""
    return {}, ""
