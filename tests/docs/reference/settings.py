"""Write docs/reference/settings.md: the settings of `run`, and the variables of AWS and other programs."""

from collections.abc import Sequence

from sidecar.commands import credentials
from sidecar.commands import exec as exec_command
from sidecar.config.settings import PREFIX, SETTINGS, Setting
from tests.docs.reference import markdown
from tests.docs.reference.markdown import bullets, code, codes, marked, section, sentence, sentences, table
from tests.docs.reference.settings_notes import NOTES, OF_COMMANDS, OF_STS, OF_THE_NETWORK, Variable

_BY_CREDENTIALS = frozenset({credentials.LISTEN, credentials.SECRET_FILE})
_BY_PROBE = frozenset({f"{PREFIX}ADMIN_LISTEN"})

_RULES = """
A flag takes precedence over its variable.
An empty variable counts as unset.
An invalid value ends the command with exit status 2 and one message for all invalid settings.
A variable with the prefix `IRSA_SIDECAR_` that is not a setting is ignored with the warning `unknown_setting_ignored`.
Variables that Kubernetes creates for a Service are ignored without a warning.
"""

_OF_STS = """
The program reads these variables as the AWS SDKs do.
The commands `run`, `exec`, `doctor` and `credentials` read all of them.
The command `token` reads `AWS_WEB_IDENTITY_TOKEN_FILE` and `AWS_CA_BUNDLE`.
"""

_OF_THE_NETWORK = """
Every command that connects to AWS or to an issuer reads these variables.
The names `https_proxy` and `no_proxy` also work.
"""

_OF_COMMANDS = "`setup`, `audit`, `who` and `doctor` call AWS with botocore, which reads all variables of AWS."

_SCALARS = (
    "`AWS_USE_FIPS_ENDPOINT` and `AWS_USE_DUALSTACK_ENDPOINT` accept only `true` and `false`, in upper or lower case."
)


def page() -> str:
    return markdown.page(
        "Settings",
        "This page lists every setting of `irsa-sidecar run`, with its default and its accepted values.",
        _RULES,
        section(2, "All settings", table(("variable", "default", "meaning"), map(_row, SETTINGS))),
        section(2, "Each setting", *map(_section, SETTINGS)),
        section(
            3,
            "`--allow-non-loopback`",
            "Let `IRSA_SIDECAR_LISTEN` and `IRSA_SIDECAR_IMDS_LISTEN` be addresses that other machines can reach. "
            "This flag has no variable.",
        ),
        section(
            2,
            "Variables of AWS",
            sentences(_OF_STS),
            _variables(OF_STS),
            _SCALARS,
        ),
        section(
            2,
            "Variables of the network",
            sentences(_OF_THE_NETWORK),
            _variables(OF_THE_NETWORK),
        ),
        section(2, "Variables of some commands", _OF_COMMANDS, _variables(OF_COMMANDS)),
    )


def readers(setting: Setting) -> list[str]:
    """Return the commands that read the setting's variable."""
    name = f"{PREFIX}{setting.variable}"
    found = ["run", "doctor"]
    if name not in exec_command.FOR_PODS and setting.field != "log_level":
        found.append("exec")
    if name in _BY_CREDENTIALS:
        found.append("credentials")
    if name in _BY_PROBE:
        found.append("probe")
    return found


def _default(setting: Setting) -> str:
    if setting.field == "log_format":
        return "`json`, or `console` on a terminal"
    return "none" if setting.default is None else code(setting.default)


def _meaning(setting: Setting) -> str:
    """Return the meaning as sentences. `console` is code only in the format of the log."""
    meaning = sentence(setting.meaning)
    return meaning.replace("console", code("console")) if setting.field == "log_format" else meaning


def _row(setting: Setting) -> tuple[str, str, str]:
    name = f"{PREFIX}{setting.variable}"
    return f"[{code(name)}](#{name.lower()})", _default(setting), _meaning(setting)


def _section(setting: Setting) -> str:
    note = NOTES[setting.variable]
    facts = (
        ("Flag", code(f"{setting.flag} {setting.metavar}")),
        ("Default", _default(setting)),
        ("Values", marked(f"{note.values}.")),
        ("Examples", codes(note.examples)),
        ("Read by", codes(readers(setting))),
    )
    heading = code(f"{PREFIX}{setting.variable}")
    return section(3, heading, sentences(_meaning(setting)), sentences(note.details), bullets(facts))


def _variables(variables: Sequence[Variable]) -> str:
    header = ("variable", "default", "meaning", "read by")
    rows = [(code(each.name), marked(each.default), marked(each.meaning), each.readers) for each in variables]
    width = 4 if any(each.readers for each in variables) else 3
    return table(header[:width], (row[:width] for row in rows))
