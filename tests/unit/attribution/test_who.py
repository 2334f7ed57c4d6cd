"""Run `irsa-sidecar who` on files, stdin and CloudTrail's API."""

import gzip
import io
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from sidecar import cli
from sidecar.commands import who as command
from sidecar.setup import aws
from tests.unit.attribution.samples import ARN, KEY, SESSION, call, exchange, refreshed, trail_file


class Result(NamedTuple):
    status: int
    out: str
    err: str


Who = Callable[..., Result]


@pytest.fixture
def who(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Who:
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Result:
        return Result(cli.main(["who", *arguments]), *capsys.readouterr())

    return run


def test_log_and_compressed_trail_are_joined(who: Who, tmp_path: Path) -> None:
    (tmp_path / "sidecar.log").write_text(f"[pod/cart-1/irsa-sidecar] {refreshed()}\n")
    (tmp_path / "trail.json.gz").write_bytes(gzip.compress(trail_file(exchange(), call()).encode()))
    result = who(KEY, "--logs", "sidecar.log", "--cloudtrail", "trail.json.gz")
    assert result.status == 0
    assert "Pod              cart-1 (from the log)" in result.out
    assert "ServiceAccount   shop/cart, signed by arn:aws:iam::" in result.out
    assert "s3:GetObject: 1 calls" in result.out


def test_stdin_is_read(who: Who, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(refreshed().encode())))
    assert who(KEY, "--logs", "-").status == 0


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_files_of_powershell_are_read(who: Who, tmp_path: Path, encoding: str) -> None:
    (tmp_path / "sidecar.log").write_text(f"{refreshed()}\r\n", encoding=encoding)
    (tmp_path / "trail.json").write_text(trail_file(call()), encoding=encoding)
    result = who(KEY, "--logs", "sidecar.log", "--cloudtrail", "trail.json")
    assert result.status == 0
    assert "s3:GetObject: 1 calls" in result.out
    assert "valid            2026-" in result.out


def test_too_large_file_is_rejected(who: Who, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A gzip file of 10 MiB can grow to 10 GiB."""
    monkeypatch.setattr(command, "MAX_FILE_BYTES", 100_000)
    (tmp_path / "bomb.gz").write_bytes(gzip.compress(bytes(200_000)))
    (tmp_path / "large").write_bytes(bytes(100_001))
    for name in ("bomb.gz", "large"):
        result = who(KEY, "--logs", name)
        assert result.status == 2
        assert f"--logs is {name}, which has more than 100000 bytes" in result.err
    assert who(KEY, "--cloudtrail", "/dev/zero").status == 2


def test_closed_stdin_is_reported(who: Who, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    result = who(KEY, "--logs", "-")
    assert result.status == 2
    assert "--logs is -, which cannot be read (stdin is closed). Use a readable file, or" in result.err


def test_unknown_key_exits_with_status_one(who: Who, tmp_path: Path) -> None:
    (tmp_path / "sidecar.log").write_text(refreshed())
    result = who("ASIAUNKNOWN000000001", "--logs", "sidecar.log")
    assert result.status == 1
    assert "in 1 log lines about credentials and 0 CloudTrail records" in result.err


@pytest.mark.parametrize(
    ("target", "attribute"),
    [
        (KEY, ("AccessKeyId", KEY)),
        (SESSION, ("Username", SESSION)),
        (ARN, ("Username", SESSION)),
        ("arn:aws:iam::111122223333:role/cart", ("ResourceName", "cart")),
    ],
)
def test_event_history_is_looked_up(
    who: Who, monkeypatch: pytest.MonkeyPatch, target: str, attribute: tuple[str, str]
) -> None:
    asked: list[tuple[str, str]] = []

    def respond(_self: aws.Aws, service: str, operation: str, **parameters: Any) -> Mapping[str, Any]:
        assert (service, operation) == ("cloudtrail", "LookupEvents")
        (wanted,) = parameters["LookupAttributes"]
        asked.append((wanted["AttributeKey"], wanted["AttributeValue"]))
        record = exchange() if wanted["AttributeKey"] == "EventName" else call()
        return {"Events": [{"CloudTrailEvent": json.dumps(record)}]}

    monkeypatch.setattr(aws.Aws, "call", respond)
    result = who(target, "--cloudtrail-api", "--json")
    assert result.status == 0
    assert asked == [attribute, ("EventName", "AssumeRoleWithWebIdentity")]
    assert json.loads(result.out)["sessions"][0]["service_account"] == "shop/cart"


@pytest.mark.parametrize("response", [{}, {"Events": []}, {"Events": [{}, {"CloudTrailEvent": "{"}]}])
def test_event_history_without_records_is_an_error(
    who: Who, monkeypatch: pytest.MonkeyPatch, response: dict[str, Any]
) -> None:
    monkeypatch.setattr(aws.Aws, "call", lambda *_args, **_parameters: response)
    assert who(KEY, "--cloudtrail-api").status in {1, 2}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((KEY,), "Neither logs nor CloudTrail records are named. Use --logs"),
        (("two words", "--logs", "-"), "WHO is 'two words'"),
        ((KEY, "--logs", "nowhere"), "--logs is nowhere, which cannot be read (No such file or directory)"),
        ((KEY, "--cloudtrail", "broken.gz"), "--cloudtrail is broken.gz, which cannot be read"),
        ((KEY, "--cloudtrail", "damaged.gz"), "--cloudtrail is damaged.gz, which cannot be read (Error -3"),
        ((KEY, "--cloudtrail", "text"), "--cloudtrail is text: it has no CloudTrail records"),
    ],
)
def test_wrong_usage_exits_with_status_two(who: Who, tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    (tmp_path / "broken.gz").write_bytes(b"\x1f\x8bnot gzip")
    (tmp_path / "damaged.gz").write_bytes(b"\x1f\x8b\x08" + bytes(7) + b"\xff" * 8)
    (tmp_path / "text").write_text("hello\n")
    result = who(*arguments)
    assert result.status == 2
    assert message in result.err
