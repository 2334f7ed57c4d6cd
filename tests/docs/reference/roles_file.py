"""Write docs/reference/roles-file.md, with the keys of the file that configures several roles."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.docs.reference import markdown
from tests.docs.reference.markdown import bullets, code, fenced, marked, section, sentences, table
from tests.docs.reference.roles_file_notes import LIMITS, OF_A_ROLE, OF_A_STEP, KeyNote
from tests.docs.schemas.rules import ROLES

EXAMPLE = Path(__file__).parents[3] / "docs" / "roles.yaml"

_INTRODUCTION = f"""
[IRSA_SIDECAR_CONFIG](settings.md#irsa_sidecar_config) is the path of the file.
The annotation [irsa-sidecar.io/roles](annotations.md#irsa-sidecarioroles) contains the value of the key `roles`.
{LIMITS}
The daemon reads the file again after each change, and on SIGHUP.

If the file has a mistake, the daemon rejects the whole file and keeps the previous configuration.
Mistakes are an unknown key, a key that occurs twice at any depth, and a value of the wrong kind.
The merge key `<<` is not supported.
The message shows the file, the line and the valid key with the most similar name.
"""

_SCHEMA = """
`irsa-sidecar schema roles` prints the JSON Schema of the file, with which an editor checks the file.
[roles.md](../roles.md#check-the-file-in-your-editor) shows how to use the schema.
The schema accepts every valid file.
It does not contain these rules, which only the daemon checks:
"""


def page() -> str:
    return markdown.page(
        "Roles file",
        "This page lists every key of the YAML file that configures several roles for `irsa-sidecar run`.",
        sentences(_INTRODUCTION),
        section(2, "Example", fenced(EXAMPLE.read_text(encoding="utf-8"), "yaml")),
        section(
            2,
            "All keys",
            table(("key", "in", "default"), (*_overview("role", OF_A_ROLE), *_overview("step", OF_A_STEP))),
        ),
        section(2, "Keys of a role", sentences(_only_of_a_step()), *_sections("role", OF_A_ROLE)),
        section(
            2,
            "Keys of a step",
            "A step of `chain` is one AssumeRole.",
            *_sections("step", OF_A_STEP),
        ),
        section(2, "Schema", sentences(_SCHEMA), "\n".join(f"- {rule.text}" for rule in ROLES)),
    )


def _overview(kind: str, notes: Mapping[str, KeyNote]) -> list[tuple[str, str, str]]:
    own = {name: note for name, note in notes.items() if note.example}
    return [(f"[{code(name)}](#{kind}-{name})", kind, marked(note.default)) for name, note in own.items()]


def _only_of_a_step() -> str:
    names = [code(name) for name, note in OF_A_ROLE.items() if not note.example]
    listed = f"{', '.join(names[:-1])} and {names[-1]}"
    return f"{listed} belong to a step of `chain`. STS does not accept these keys together with a token."


def _sections(kind: str, notes: Mapping[str, KeyNote]) -> Iterator[str]:
    return (_section(kind, name, note) for name, note in notes.items() if note.example)


def _section(kind: str, name: str, note: KeyNote) -> str:
    facts = (
        ("Value", marked(note.form)),
        ("Default", marked(note.default)),
        ("Example", code(f"{name}: {note.example}")),
    )
    return section(3, f"{kind}: {code(name)}", sentences(note.meaning), bullets(facts))
