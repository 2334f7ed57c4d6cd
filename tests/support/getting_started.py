"""Read the commands of docs/getting-started.md, for the tests that run them."""

import re
from pathlib import Path

DOCUMENT = Path(__file__).parents[2] / "docs/getting-started.md"

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def sections() -> dict[str, str]:
    """Return each section's text by its heading."""
    _, *parts = re.split(r"^## (.+)\n", DOCUMENT.read_text(), flags=re.MULTILINE)
    return dict(zip(parts[::2], parts[1::2], strict=True))


def blocks(section: str, language: str) -> list[str]:
    """Return the code blocks of that language in a section, unchanged."""
    return [block for found, block in _BLOCK.findall(sections()[section]) if found == language]


def commands(section: str) -> list[str]:
    """Return the section's shell commands, each on one line."""
    text = "".join(blocks(section, "sh")).replace("\\\n", " ")
    return [re.sub(" +", " ", line) for line in text.splitlines()]
