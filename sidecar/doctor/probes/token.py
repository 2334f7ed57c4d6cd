"""Read the token's file: its content, its permissions and its mount."""

import os
import re

import jwt

from sidecar.doctor.checks.token import FileFacts, TokenFacts
from sidecar.errors import TokenError
from sidecar.role import Role
from sidecar.token import read_token

MOUNTS = "/proc/self/mountinfo"

_WRITE = re.compile(r"/\.\.[0-9]{4}_[0-9]{2}_[0-9]{2}_[0-9]{2}_[0-9]{2}_[0-9]{2}\.[0-9]+/")
"""
Pattern for the directory of one write by the kubelet. A mount of a file in that directory never shows a later write.
"""


def collect(role: Role, now: float, mounts: str = MOUNTS) -> TokenFacts:
    """Return the facts about the role's token, without network access. `mounts` is the path of the mount table."""
    try:
        token = read_token(role.token_file)
    except TokenError as error:
        return TokenFacts(role, now, error=error)
    header = jwt.get_unverified_header(token.raw)
    kid, algorithm = header.get("kid"), header.get("alg")
    file = _file(role.token_file, mounts)
    return TokenFacts(role, now, token, None, kid and str(kid), algorithm and str(algorithm), file)


def _file(path: str, mounts: str) -> FileFacts | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    owner = (status.st_uid, status.st_gid)
    return FileFacts(status.st_size, status.st_mode, owner, os.geteuid(), is_sub_path(path, _mount_table(mounts)))


def _mount_table(mounts: str) -> str:
    try:
        with open(mounts, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:  # not Linux
        return ""


def is_sub_path(path: str, mount_table: str) -> bool:
    """
    Return whether the file is mounted without its volume. `mount_table` is mountinfo (proc(5)).

    For a subPath, the kubelet mounts the current target of the file's link.
    """
    for line in mount_table.splitlines():
        fields = line.split(" ")
        if len(fields) > 4 and _unescaped(fields[4]) == os.path.abspath(path):
            return True
        if len(fields) > 4 and _WRITE.search(fields[3]) and path.startswith(_unescaped(fields[4]) + "/"):
            return True
    return False


def _unescaped(field: str) -> str:
    """Return the field with its octal escapes decoded, because proc(5) escapes spaces."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)
