"""Write docs/reference/doctor-checks.md: every check of doctor, with its findings and the set-ups of the tests."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from sidecar.doctor.checks.pod_container import CONTAINER_CHECKS
from sidecar.doctor.finding import Check
from sidecar.doctor.run import GROUPS
from tests.docs.reference import markdown
from tests.docs.reference.check_findings import COMMAND, UNKNOWN, CodedFinding, findings_of
from tests.docs.reference.markdown import bullets, code, codes, marked, section, sentences, table
from tests.unit.doctor.broken_set_ups import BROKEN

ABOUT: Mapping[str, str] = {
    "settings": "The settings of the daemon, from the sidecar's environment.",
    "token": "The service account token of each role, from its file.",
    "issuer": "The issuer of the token, and the keys that it publishes.",
    "sts": "The network path to STS, step by step. Doctor also runs the exchange before it reports. "
    "If the exchange succeeds, a failure in this group is only a warning.",
    "exchange": "One exchange of the token at STS.",
    "trust": "The IAM OIDC provider and the trust policy of the role. Doctor needs credentials that may read IAM.",
    "environment": "The environment of the application. With `--pod`: the environment of each container in "
    "the manifest.",
    "endpoint": "The credentials endpoint, as the application's SDK uses it.",
    "identity": "The identity that AWS reports for the served credentials.",
    "sdks": "The AWS SDKs in the application's container.",
    "metadata": "The metadata service of the node.",
    "pod": "The Pod as the API server shows it, with `--pod`.",
}
"""The subject of each group of checks."""

_OF_CONTAINERS = "endpoint"
"""The group that reports show for the checks in a Pod's containers. In GROUPS, these checks belong to `pod`."""

_INTRODUCTION = """
Doctor runs the checks in this order, from the token to the application.
It skips a check that depends on a failed check.
The other checks still run, so later failures can have the same cause as the first failure.
[The page doctor](../doctor.md) describes how to run the command.

- **FAILED**: the application gets no credentials or the credentials of another role, now or later.
- **warning**: the application gets its credentials now. It may get no credentials later, or there is another risk.

In a finding, a name in capitals such as HOST stands for a value of your set-up, and `…` stands for other text.
If the next step depends on your set-up, `Or:` separates the alternatives.
If a finding is an error message of irsa-sidecar, this page does not list its text.
[Troubleshooting](../troubleshooting.md) explains frequent messages.
Some checks have a second table.
It lists mistakes that our tests make, and a part of the finding for each mistake.
"""

_DYNAMIC = "A finding of this check can be an error message of irsa-sidecar, which contains the fix."


class Entry(NamedTuple):
    """The checks with the same id. These checks examine the same thing, from inside and from outside the Pod."""

    group: str
    checks: tuple[Check[Any], ...]

    @property
    def id(self) -> str:
        return f"{self.group}.{self.checks[0].name}"


def page() -> str:
    return markdown.page(
        "Doctor's checks",
        "This page lists every check of `irsa-sidecar doctor`, with its findings and the next step of each.",
        _INTRODUCTION,
        section(2, "All checks", table(("group", "checks"), map(_row, GROUPS))),
        *(section(2, group, sentences(ABOUT[group]), *map(_section, entries(group))) for group in GROUPS),
    )


def entries(group: str) -> list[Entry]:
    """Return the checks of a group by their id."""
    own = [check for check in GROUPS[group] if check not in CONTAINER_CHECKS]
    checks = [*own, *CONTAINER_CHECKS] if group == _OF_CONTAINERS else own
    names = dict.fromkeys(check.name for check in checks)
    return [Entry(group, tuple(check for check in checks if check.name == name)) for name in names]


def _row(group: str) -> tuple[str, str]:
    links = (f"[{entry.checks[0].name}](#{entry.id.replace('.', '')})" for entry in entries(group))
    return f"[{group}](#{group})", ", ".join(links)


def _section(entry: Entry) -> str:
    return section(
        3,
        entry.id,
        "\n".join(_question(check) for check in entry.checks),
        bullets([("Depends on", codes(f"{entry.group}.{name}" for name in _after(entry.checks)))]),
        _findings([found for check in entry.checks for found in findings_of(check.evaluate)]),
        _set_ups(entry.id),
    )


def _question(check: Check[Any]) -> str:
    return f"{marked(check.question[:1].upper() + check.question[1:])}?"


def _after(checks: Iterable[Check[Any]]) -> list[str]:
    return list(dict.fromkeys(name for check in checks for name in check.after))


def _findings(findings: Sequence[CodedFinding]) -> str:
    """Return a table of the findings whose text is in the code, and a sentence about the other findings."""
    own = [found for found in findings if _has_text(found.text)]
    rows = ((found.status, _cell(found.text), _cell(found.next_step)) for found in own)
    shown = table(("status", "finding", "next step"), rows) if own else ""
    return "\n\n".join(filter(None, [shown, "" if len(own) == len(findings) > 0 else _DYNAMIC]))


def _has_text(text: str) -> bool:
    return any(character.isalpha() for character in text)


def _cell(text: str) -> str:
    if text.startswith(COMMAND):
        return code(text)
    return marked(text.replace("|", "\\|")) if text != UNKNOWN else "the finding contains the next step"


def _set_ups(check: str) -> str:
    """Return the broken set-ups of the tests, with words from the first finding of each set-up."""
    rows = [(row.what, f"… {_shown(row.words)} …") for row in BROKEN if row.check == check]
    return table(("mistake", "words of the finding"), rows) if rows else ""


def _shown(words: str) -> str:
    """Return the words for a cell. AUTHORITY replaces the beginning of the name of the tests' authority."""
    return words.strip().removeprefix(", ").replace("trustme v", "AUTHORITY").replace("|", "\\|")
