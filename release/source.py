"""
Read the source of a release: one commit, its version and its time.

Rule: files come from the commit and not from the work tree, so local changes and modes of files cannot reach a release.
"""

import io
import re
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path

URL = "https://github.com/irsa-sidecar/irsa-sidecar"
"""Address of the repository, as in `[project.urls]` of pyproject.toml."""

_VERSION = re.compile(r'^__version__ = "(?P<version>[^"]+)"$', re.MULTILINE)


@dataclass(frozen=True)
class Source:
    """A commit of the repository, with the version in it and the time of the commit."""

    repository: Path
    revision: str
    epoch: int
    version: str


def read_source(repository: Path, reference: str = "HEAD") -> Source:
    """Return the commit that the reference names."""
    revision, epoch = _git(repository, "show", "--no-patch", "--format=%H %ct", reference).decode().split()
    text = _git(repository, "show", f"{revision}:sidecar/__init__.py").decode()
    return Source(repository, revision, int(epoch), version_in(text))


def version_in(module: str) -> str:
    """Return the version that the text of `sidecar/__init__.py` defines."""
    found = _VERSION.search(module)
    if found is None:
        raise SystemExit("sidecar/__init__.py is without __version__: the release has no version. Define it.")
    return found["version"]


def export(source: Source, folder: Path) -> None:
    """Write the files of the commit into the folder, each with mode 0644 or 0755."""
    content = _git(source.repository, "-c", "tar.umask=0022", "archive", "--format=tar", source.revision)
    folder.mkdir(parents=True)
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        archive.extractall(folder, filter="tar")


def changed_files(repository: Path) -> list[str]:
    """Return the names of tracked files whose local changes are not in the release."""
    status = _git(repository, "status", "--porcelain", "--untracked-files=no").decode()
    return [line[3:] for line in status.splitlines()]


def _git(repository: Path, *arguments: str) -> bytes:
    return subprocess.run(["git", "-C", str(repository), *arguments], stdout=subprocess.PIPE, check=True).stdout
