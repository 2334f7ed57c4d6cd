"""
Keep the list of published versions that the site's version selector reads.

Rule: this module is pure. The form is that of `mike`, which Zensical reads: a list of
`{"version", "title", "aliases"}`, newest first. The alias `latest` belongs to the newest version.
"""

from typing import TypedDict


class Version(TypedDict):
    """A published version of the documentation."""

    version: str
    title: str
    aliases: list[str]


def with_version(published: list[Version], version: str) -> list[Version]:
    """Return the list with this version added, newest first, and with `latest` at the newest version."""
    names = sorted({version, *(each["version"] for each in published)}, key=_order, reverse=True)
    return [{"version": name, "title": name, "aliases": ["latest"] if name == names[0] else []} for name in names]


def _order(version: str) -> tuple[int, ...]:
    """
    Return the numbers of a version such as 0.10 or 1.2.3.

    Raises ValueError if it has other parts.
    """
    return tuple(int(part) for part in version.split("."))
