"""Cut the notes of one version out of CHANGELOG.md."""

import re


def notes(changelog: str, version: str) -> str:
    """Return the text below the heading of the version, up to the next heading of the same level."""
    heading = rf"^## {re.escape(version)}(?: \([^)\n]*\))?\n(?P<notes>.*?)(?=^## |\Z)"
    found = re.search(heading, changelog, re.MULTILINE | re.DOTALL)
    if found is None:
        raise SystemExit(f"CHANGELOG.md has no section {version}. Add one with towncrier (RELEASING.md).")
    return found["notes"].strip() + "\n"
