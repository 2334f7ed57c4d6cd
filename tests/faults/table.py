"""
Generate the table of faults in docs/reliability.md from the tests that check them: `python -m tests.faults.table`.

The first line of a test's docstring is the fault, and its second paragraph is the expected behaviour.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
DOCUMENT = HERE.parent.parent / "docs" / "reliability.md"

SECTIONS = {
    "test_token_faults.py": "The token",
    "test_time_faults.py": "The clocks",
    "test_sts_faults.py": "STS",
    "test_network_faults.py": "The network path to STS",
    "test_endpoint_faults.py": "The endpoint's clients",
    "test_process_faults.py": "The process and its Pod",
    "test_volume_faults.py": "Volumes that do not respond",
}
"""The heading for the faults in each file, in the order of the data flow."""

_MARKED = re.compile(r"(<!-- faults: .* -->\n).*(<!-- end of faults -->\n)", re.DOTALL)


def faults(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the fault and the expected behaviour of each test in the file."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name.startswith("test_"):
            fault, _, expected = (ast.get_docstring(node) or "").partition("\n\n")
            assert expected, f"{path.name}: {node.name} needs a docstring with the fault and the expected behaviour"
            yield fault, " ".join(expected.partition("\n\n")[0].split())


def render() -> str:
    lines = []
    for name, section in SECTIONS.items():
        lines += [
            f"### {section}",
            "",
            f"[tests/faults/{name}](../tests/faults/{name})",
            "",
            "| fault | what happens |",
            "|---|---|",
        ]
        lines += [f"| {fault} | {expected} |" for fault, expected in faults(HERE / name)]
        lines.append("")
    return "\n".join(lines)


def written_into(document: str) -> str:
    """Return the document with the current table."""
    return _MARKED.sub(lambda marks: f"{marks[1]}\n{render()}\n{marks[2]}", document)


if __name__ == "__main__":
    DOCUMENT.write_text(written_into(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
