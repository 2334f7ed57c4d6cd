"""
Read an application's environment, and read AWS's configuration files as the application's SDK would.

Rule: only regular files up to a maximum size are read, because a FIFO or a device could block doctor.
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
"""Paths at which Amazon's webhook and our manifests mount the token."""

_CREDENTIALS = (
    "aws_access_key_id",
    "credential_process",
    "web_identity_token_file",
    "sso_session",
    "sso_start_url",
    "login_session",
    "role_arn",
)
"""Names of the profile settings that provide credentials (AWS SDKs and Tools Reference Guide)."""

MAX_CONFIGURATION_BYTES = 1024 * 1024
"""Maximum size of a configuration file that is read. A typical file has some hundred lines."""

_FILES = (("AWS_SHARED_CREDENTIALS_FILE", "credentials"), ("AWS_CONFIG_FILE", "config"))


def collect(environ: Mapping[str, str], token_files: Sequence[str] = TOKEN_FILES) -> EnvironmentFacts:
    """
    Return the facts about the environment. The function may block, so call it in a thread.

    Raises nothing.
    """
    read = [(path, *_default_profile(path)) for path in _paths(environ)]
    profiles = [(path, profile) for path, profile, _ in read]
    unreadable = tuple((path, problem) for path, _, problem in read if problem)
    settings = [(path, tuple(name for name in _CREDENTIALS if name in profile)) for path, profile in profiles]
    files = tuple(
        (path, names)
        for (path, names), (_, profile) in zip(settings, profiles, strict=True)
        # Two kinds of profile are not a conflict: `credential_source = EcsContainer`, and a file that the daemon wrote.
        if names and profile.get("credential_source", "").lower() != "ecscontainer" and not _is_from_daemon(path)
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


def _is_from_daemon(path: str) -> bool:
    """Return whether the daemon wrote the file (IRSA_SIDECAR_CREDENTIALS_FILE)."""
    try:
        return (read_regular_file(path, len(HEADER)) or b"") == HEADER.encode()
    except OSError:
        return False


def _default_profile(path: str) -> tuple[Mapping[str, str], str]:
    """Return the default profile's settings and the file's problem. A missing file counts as an empty file."""
    try:
        content = read_regular_file(path, MAX_CONFIGURATION_BYTES + 1)
    except FileNotFoundError:
        return {}, ""
    except (OSError, ValueError) as exc:
        return {}, getattr(exc, "strerror", None) or "the path is not a valid file name"
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
    except Exception:  # noqa: BLE001  configparser has bugs: AttributeError for some continuation lines
        return {}, "Python's configuration parser fails on it"
    for section in ("default", "profile default"):
        if parser.has_section(section):
            return {name: value or "" for name, value in parser.items(section)}, ""
    return {}, ""
