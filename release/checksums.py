"""Write and compare the list of SHA-256 checksums, in the format of `sha256sum --check`."""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

NAME = "SHA256SUMS"

OUTSIDE = {NAME, f"{NAME}.sigstore.json"}
"""Files that the list cannot contain: itself, and its signature."""


def sha256(path: Path) -> str:
    """Return the SHA-256 of the file in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def checksums(folder: Path) -> dict[str, str]:
    """Return the checksum of each file of the folder, by the name of the file."""
    files = (path for path in sorted(folder.iterdir()) if path.name not in OUTSIDE)
    return {path.name: sha256(path) for path in files}


def write_checksums(folder: Path) -> Path:
    """Write the list of the folder's files, and return its path."""
    lines = (f"{digest}  {name}\n" for name, digest in checksums(folder).items())
    path = folder / NAME
    path.write_text("".join(lines))
    return path


def listed(text: str) -> dict[str, str]:
    """Return the checksums in the text of a list."""
    return {name: digest for digest, _, name in (line.partition("  ") for line in text.splitlines())}


def differences(expected: Mapping[str, str], found: Mapping[str, str]) -> Iterator[str]:
    """Yield a clause for each file that is missing, unknown or different."""
    for name in sorted(expected.keys() | found.keys()):
        if name not in found:
            yield f"{name} is in {NAME} but not in the folder"
        elif name not in expected:
            yield f"{name} is in the folder but not in {NAME}"
        elif expected[name] != found[name]:
            yield f"{name} has SHA-256 {found[name]}, but {NAME} has {expected[name]}"
