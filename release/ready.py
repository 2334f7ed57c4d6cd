"""Check that a commit can be released under a tag."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from release.images import base_in
from release.notes import notes


def problems(tag: str, version: str, fragments: Sequence[str], dockerfile: str) -> Iterator[str]:
    """Yield each reason why the tag must not be published, with the fix."""
    if tag != f"v{version}":
        yield f"the tag is {tag}, and __version__ in sidecar/__init__.py is {version}. Tag v{version}"
    if fragments:
        yield f"changelog.d has {', '.join(fragments)}. Run towncrier (RELEASING.md)"
    if "@sha256:" not in base_in(dockerfile):
        yield "the base image in the Dockerfile has no digest. Pin it"


def check_ready(repository: Path, tag: str, version: str) -> None:
    """Exit with an error message if the commit must not be published under the tag."""
    notes((repository / "CHANGELOG.md").read_text(), version)
    fragments = sorted(path.name for path in (repository / "changelog.d").glob("*.md") if path.name != "README.md")
    found = list(problems(tag, version, fragments, (repository / "Dockerfile").read_text()))
    if found:
        raise SystemExit("\n".join(f"release: error: {problem}." for problem in found))
