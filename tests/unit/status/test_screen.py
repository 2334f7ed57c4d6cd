"""Test the output of the watch: a terminal is in tests/end_to_end/test_status_command.py."""

import io

import pytest

from sidecar.errors import KubernetesError
from sidecar.status.screen import Screen, encodable, write
from sidecar.status.watch import Shown

SHOWN = Shown(lambda: "the report", fails=False, made_at=1_800_000_000.0)
OLD = SHOWN._replace(error=KubernetesError("the API server was\x1b[2J not reached"))


def test_report_in_a_pipe_has_its_time(capsys: pytest.CaptureFixture[str]) -> None:
    Screen(is_json=False).show(SHOWN)
    assert capsys.readouterr().out == "2027-01-15T08:00:00Z\nthe report\n\n"


def test_error_is_above_the_old_report(capsys: pytest.CaptureFixture[str]) -> None:
    Screen(is_json=False).show(OLD)
    shown = capsys.readouterr().out
    assert shown.startswith("2027-01-15T08:00:00Z\nThis report is old: the API server was")
    assert "\x1b" not in shown


def test_json_has_only_documents_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen(is_json=True)
    screen.show(SHOWN)
    screen.show(OLD)
    shown = capsys.readouterr()
    assert shown.out == "the report\n"
    assert "the API server was" in shown.err


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [("utf-8", "a…z é → end"), ("latin-1", "a~z é \\u2192 end"), ("ascii", "a~z \\xe9 \\u2192 end")],
)
def test_text_is_replaced_where_stdout_cannot_encode_it(
    monkeypatch: pytest.MonkeyPatch, encoding: str, shown: str
) -> None:
    assert encodable("a…z é → end", encoding) == shown
    output = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(output, encoding))
    write("a…z é → end")
    assert output.getvalue() == shown.encode(encoding)
