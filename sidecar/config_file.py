"""
Read a YAML file that a setting names, and suggest names for its misspelt keys.

Rule: every failure to read the file is a ConfigurationError that names the setting and the file.
"""

from collections.abc import Iterable

from sidecar.errors import ConfigurationError
from sidecar.files import read_regular_file

MAX_FILE_BYTES = 1024 * 1024
"""Limit for the size of the file: the maximum size of a ConfigMap."""

MAX_KEY_CHARACTERS = 100
"""Maximum number of characters of a key that messages show, and that are compared with the known keys."""


def read_config_file(setting: str, path: str, fix: str) -> bytes:
    """
    Return the content of the file at `path`, which `setting` names.

    Raises ConfigurationError with this `fix` if the file is not readable, not a regular file, or too large.
    """
    try:
        content = read_regular_file(path, MAX_FILE_BYTES + 1)
    except OSError as exc:
        problem = f"{setting} is {path}, which cannot be read ({exc.strerror or exc})"
        raise ConfigurationError(problem, fix=fix, setting=setting) from exc
    if content is None or len(content) > MAX_FILE_BYTES:
        problem = f"{setting} is {path}, which is not a file of at most {MAX_FILE_BYTES} bytes"
        raise ConfigurationError(problem, fix=fix, setting=setting)
    return content


def suggested_key(key: str, known: Iterable[str]) -> str:
    """Return the fix for an unknown key. It names the most similar known key, or else all known keys."""
    from difflib import get_close_matches  # noqa: PLC0415  only for a message about a wrong key

    names = list(known)
    near = get_close_matches(key[:MAX_KEY_CHARACTERS], names, n=1, cutoff=0.5)
    return f"Did you mean {near[0]}?" if near else f"Use one of {', '.join(names)}"
