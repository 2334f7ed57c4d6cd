"""Test that texts from outside are printed without characters that a terminal obeys, hides or reorders."""

import argparse
import ast
import json
import os
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar import cli
from sidecar.console import MAX_LENGTH, remark
from sidecar.doctor.finding import Row, failed, warning
from sidecar.doctor.location import Side
from sidecar.doctor.report import Report, as_text
from sidecar.errors import ConfigurationError
from sidecar.log import make_logger
from sidecar.printable import printable, printable_json, printable_lines
from sidecar.setup.aws import Aws
from sidecar.setup.aws_steps import apply_plan
from sidecar.setup.plan import Call, Plan
from sidecar.setup.resources import OidcProvider
from tests.support.fakes.tokens import jwt_of
from tests.support.processes import scripted_sts
from tests.unit.commands.test_commands import command

SIDECAR = Path(__file__).parents[2] / "sidecar"

HOSTILE = {
    "colour": "\x1b[31m",
    "title": "\x1b]0;x\x07",
    "C1 control sequence": "\x9b2J",
    "carriage return": "\r",
    "backspace": "\x08",
    "NUL": "\0",
    "DEL": "\x7f",
    "next line": "\x85",
    "right-to-left override": "\u202e",
    "isolate": "\u2066",
    "Arabic letter mark": "\u061c",
    "zero-width space": "\u200b",
    "zero-width joiner": "\u200d",
    "byte order mark": "\ufeff",
    "soft hyphen": "\u00ad",
    "line separator": "\u2028",
    "paragraph separator": "\u2029",
    "tag character": "\U000e0041",
    "Hangul filler": "\u3164",
    "half-width Hangul filler": "\uffa0",
    "grapheme joiner": "\u034f",
    "interlinear annotation": "\ufff9",
    "lone surrogate": "\udc80",
    "noncharacter": "\ufffe",
}
MANY = "".join(HOSTILE.values())


def assert_harmless(text: str, allowed: str = "\n") -> None:
    """Fail if the text has a control, format, separator or surrogate character that is not allowed."""
    bad = [c for c in text if c not in allowed and unicodedata.category(c) in {"Cc", "Cf", "Cs", "Zl", "Zp"}]
    assert not bad
    assert not set("\u034f\u115f\u1160\u3164\uffa0") & set(text)


@pytest.mark.parametrize("character", HOSTILE.values(), ids=HOSTILE)
def test_printable_escapes_characters_that_terminals_obey(character: str) -> None:
    shown = printable(f"a{character}b")
    assert_harmless(shown, allowed="")
    assert shown.startswith("a\\")
    assert shown.endswith("b")


@pytest.mark.parametrize(
    "text",
    [
        "plain ~ ASCII \\ '\"",
        "naïve",
        "Ελληνικά",
        "中文日本語",
        "हिन्दी",
        "עברית",
        "العربية",
        "🐍 ✓ ⋮ …",
        "a\u00a0b",
        "a\u3000b",
    ],
)
def test_printable_does_not_change_ordinary_text(text: str) -> None:
    assert printable(text) == text


@given(st.text(st.characters(codec=None)), st.none() | st.integers(0, 30))
def test_printable_of_any_text_is_harmless_and_bounded(text: str, max_length: int | None) -> None:
    shown = printable(text, max_length=max_length)
    assert_harmless(shown, allowed="")
    assert max_length is None or len(shown) <= max_length


def test_printable_cuts_between_escapes() -> None:
    assert printable("\x1b" * 5, max_length=10) == r"\x1b\x1b…"
    assert printable("\x1b\x1b", max_length=8) == r"\x1b\x1b"


def test_printable_does_not_escape_characters_in_keep() -> None:
    assert printable("a\n\tb\r", keep="\n\t") == "a\n\tb\\r"


def test_printable_lines_indents_every_line_after_the_first() -> None:
    assert printable_lines("first\nirsa-sidecar: all is well\x1b") == "first\n  irsa-sidecar: all is well\\x1b"


def test_printable_json_escapes_del() -> None:
    assert printable_json('{"a": "\x7f"}') == '{"a": "\\u007f"}'


@pytest.mark.parametrize("text", ["\x9b31m", "\u202e", "\U000e0041", "é 😀", "\u2028", "\ud800"])
def test_printable_json_is_the_same_document(text: str) -> None:
    document = printable_json(json.dumps({text: text}, ensure_ascii=False, indent=2))
    assert json.loads(document) == {text: text}
    assert printable(document, keep="\n") == document


def test_remark_has_a_maximum_length(capsys: pytest.CaptureFixture[str]) -> None:
    remark("\x1b" * MAX_LENGTH)
    assert len(capsys.readouterr().err) <= MAX_LENGTH + len("irsa-sidecar: \n")


# All outputs of the program


def test_error_of_a_command_is_printable(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", "/tmp/\x1b[31m\u202etoken")
    assert cli.main(["token"]) == 1
    shown = capsys.readouterr().err
    assert_harmless(shown)
    assert r"/tmp/\x1b[31m\u202etoken does not exist" in shown


@pytest.mark.parametrize("character", HOSTILE.values(), ids=HOSTILE)
def test_every_error_of_ours_is_printable(
    character: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_args: argparse.Namespace) -> int:
        raise ConfigurationError(f"X is {character}: change it.")

    monkeypatch.setattr("sidecar.commands.token.main", fail)
    assert cli.main(["token"]) == 2
    assert_harmless(capsys.readouterr().err)


async def test_traceback_of_a_bug_is_printable(tmp_path: Path) -> None:
    prelude = tmp_path / "sitecustomize.py"
    prelude.write_text(
        "import sidecar.commands.token as t\n"
        "def fail(args): raise ValueError('\\x1b[31m' + chr(0x202e))\n"
        "t.main = fail\n"
    )
    done = await command({"PYTHONPATH": f"{tmp_path}:{SIDECAR.parent}"}, "token")
    assert_harmless(done.stderr.decode())
    assert b"ValueError: \\x1b[31m\\u202e" in done.stderr


def test_claims_and_warnings_of_token_are_printable(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "token"
    file.write_text(jwt_of({"aud": MANY, "sub": MANY, "exp": 4_102_444_800, "iss": MANY}))
    assert cli.main(["token", "--file", str(file)]) == 0
    shown = capsys.readouterr()
    assert_harmless(shown.out)
    assert_harmless(shown.err)
    assert "audience" in shown.err


@pytest.mark.parametrize("colours", [True, False])
def test_doctor_report_is_printable(colours: bool) -> None:  # noqa: FBT001
    rows = (
        Row("pod", "env", failed(f"it is {MANY}", f"Set {MANY}"), role=f"r{MANY}", container=f"c{MANY}"),
        Row("pod", "events", warning(f"two\nlines {MANY}", "")),
    )
    text = as_text(Report(Side.POD, rows, {}), width=80, colours=colours)
    for code in ("32", "33", "1;31", "2", "0"):
        text = text.replace(f"\x1b[{code}m", "") if colours else text
    assert_harmless(text)
    assert "two lines" in text


@pytest.mark.parametrize(
    "value", [MANY, f"two words {MANY}", [MANY], {"key": MANY}], ids=["bare", "spaces", "list", "dict"]
)
def test_console_log_is_printable(value: object) -> None:
    reader, writer = os.pipe()
    log, _ = make_logger("console", "info", fd=writer)
    log.info("request_rejected", role_arn=value)
    os.close(writer)
    with os.fdopen(reader) as lines:
        line = lines.read()
    assert_harmless(line)
    assert r"\x1b[31m" in line


async def test_probe_escapes_the_response_of_any_daemon(tmp_path: Path) -> None:
    """Use a response of another program, which may listen on the admin address."""
    from tests.support.fakes.scripted_sts import Reply  # noqa: PLC0415

    async with scripted_sts(Reply(503, b"\x1b[31mnot ready\xc2\x9b2J\x80\n" + "\u202e".encode())) as sts:
        address = sts.url.removeprefix("http://").rstrip("/")
        done = await command({}, "probe", "--admin-listen", address)
    assert done.returncode == 1
    assert_harmless(done.stderr.decode())
    assert rb"not ready: \x1b[31mnot ready" in done.stderr


@pytest.mark.parametrize(("as_json", "dry_run"), [(False, True), (True, True), (False, False)])
def test_plan_of_setup_is_printable(
    as_json: bool,  # noqa: FBT001
    dry_run: bool,  # noqa: FBT001
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Aws, "apply", lambda *_: None)
    provider = OidcProvider("https://\u202eissuer", "arn:\x1b[31m", ("aud\u200b",), (), {"key": MANY})
    plan = Plan(provider, None, (Call("Create", {}, f"create {MANY}"),), (f"a note {MANY}",), (f"adds {MANY}",))
    args = argparse.Namespace(output=None, dry_run=dry_run, json=as_json, exit_code=False, step_name="role")
    assert apply_plan(plan, args, Aws(None, "eu-west-1"), (f"next {MANY}",)) == 0
    shown = capsys.readouterr()
    assert_harmless(shown.out)
    assert_harmless(shown.err)


def test_stderr_is_written_in_two_modules_only() -> None:
    """Check that only `console`, which escapes messages, and `cli`, which writes tracebacks, write to stderr."""
    found = {
        path.relative_to(SIDECAR).as_posix()
        for path in SIDECAR.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and ast.unparse(node) == "sys.stderr.write"
    }
    assert found == {"console.py", "cli.py"}
