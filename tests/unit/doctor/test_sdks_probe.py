"""Test that the SDK probe finds SDKs by their files in an image."""

import io
import json
import os
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from sidecar.doctor.checks.sdks import BOTOCORE, CHECKS, FoundSdk, SdkFacts
from sidecar.doctor.probes import sdks


def _put(root: Path, path: str, content: bytes = b"") -> None:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)


def _fat_jar() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as jar:
        jar.writestr("BOOT-INF/lib/auth-2.20.1.jar", b"")
    return buffer.getvalue()


def _program(text: bytes) -> bytes:
    return b"\x7fELF" + b"\0" * 1024 * 1024 + text + b"\0" * 100


def _package(name: str, version: str) -> bytes:
    return json.dumps({"name": name, "version": version}).encode()


TRACES = {
    "lib/python3.12/site-packages/botocore-1.34.40.dist-info/METADATA": (b"", "botocore (Python) 1.34.40"),
    "lib/python3/dist-packages/botocore-1.29.27.egg-info": (b"", "botocore (Python) 1.29.27"),
    "usr/local/aws-cli/v2/2.13.0/dist/aws": (b"", "AWS CLI 2 2.13.0"),
    "app/node_modules/aws-sdk/package.json": (_package("aws-sdk", "2.1400.0"), "JavaScript SDK 2 2.1400.0"),
    "app/node_modules/@aws-sdk/credential-provider-node/package.json": (
        _package("@aws-sdk/credential-provider-node", "3.300.0"),
        "JavaScript SDK 3 3.300.0",
    ),
    "app/aws-java-sdk-core-1.12.700.jar": (b"", "Java SDK 1 1.12.700"),
    "app/spring.jar": (_fat_jar(), "Java SDK 2 2.20.1"),
    "app/aws-config-jvm-1.0.0.jar": (b"", "Kotlin SDK 1.0.0"),
    "gems/specifications/aws-sdk-core-3.180.0.gemspec": (b"", "Ruby SDK 3.180.0"),
    "app/vendor/composer/installed.json": (
        json.dumps({"packages": [{"name": "aws/aws-sdk-php", "version": "3.280.0"}, "odd"]}).encode(),
        "PHP SDK 3.280.0",
    ),
    "app/web.deps.json": (b'{"libraries": {"AWSSDK.Core/3.7.100.1": {}}}', ".NET SDK (AWSSDK.Core) 3.7.100.1"),
    "app/server": (
        _program(b"\tdep\tgithub.com/aws/aws-sdk-go-v2/config\tv1.18.0\th1:x\n"),
        "Go SDK 2 (module config) 1.18.0",
    ),
    "app/old-server": (_program(b"\tdep\tgithub.com/aws/aws-sdk-go\tv1.44.0\th1:x\n"), "Go SDK 1 1.44.0"),
    "app/rust-server": (_program(b"/registry/src/index-1/aws-config-1.1.7/src/ecs.rs"), "Rust SDK (aws-config) 1.1.7"),
}


def searched(root: Path) -> SdkFacts:
    search = sdks.Search(str(root))
    search.run()
    return search.facts


@pytest.mark.parametrize("name", ["missing", "file"])
def test_root_that_is_not_a_directory_is_reported(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    (check,) = CHECKS
    finding = check.evaluate(searched(tmp_path / name))
    assert finding is not None
    assert finding.observed == f"{tmp_path / name} is not a directory"
    assert "--files" in finding.next_step


@pytest.mark.parametrize("path", TRACES)
def test_sdk_is_found_by_its_files_and_checked_by_version(path: str, tmp_path: Path) -> None:
    content, words = TRACES[path]
    _put(tmp_path, path, content)
    facts = searched(tmp_path)
    (found,) = facts.found
    assert f"{found.sdk.name} {found.version}" == words
    assert not found.is_new_enough
    assert found._replace(version=found.sdk.minimum_text).is_new_enough


def test_unreadable_and_misleading_files_are_skipped(tmp_path: Path) -> None:
    _put(tmp_path, "a/botocore-1.34.41.dist-info/METADATA")
    _put(tmp_path, "a/aws-sdk/package.json", b"not json")
    _put(tmp_path, "a/credential-provider-node/package.json", b"[]")
    _put(tmp_path, "a/broken.jar", b"PK")
    _put(tmp_path, "a/composer/installed.json", b'"text"')
    _put(tmp_path, "b/composer/installed.json", b'{"packages": 7}')
    _put(tmp_path, "b/aws-sdk/package.json", b"[" * 100_000)
    _put(tmp_path, "b/aws-sdk-2/package.json", b'{"name": {"name": []}}')
    os.mkfifo(tmp_path / "a" / "pipe.jar")
    os.mkfifo(tmp_path / "a" / "program")
    (tmp_path / "a" / "zero.jar").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "b" / "web.deps.json")
    _put(tmp_path, "a/text", b"\tdep\tgithub.com/aws/aws-sdk-go\tv1.44.0" + b"x" * 2_000_000)
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    facts = searched(tmp_path)
    assert [found.version for found in facts.found] == ["1.34.41"]
    assert facts.found[0].is_new_enough
    assert facts.is_complete


def test_search_stops_at_the_file_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sdks, "MAX_FILES", 3)
    for number in range(9):
        _put(tmp_path, f"file{number}")
    assert not searched(tmp_path).is_complete


async def test_search_that_hangs_keeps_its_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mock_clock: MockClock
) -> None:
    hangs, release = threading.Event(), threading.Event()

    def traces(path: str) -> Iterator[FoundSdk]:
        if path == "hangs.jar":
            hangs.set()
            release.wait()
        yield FoundSdk(BOTOCORE, "1.0", path)

    async def let_the_deadline_pass() -> None:
        await trio.to_thread.run_sync(hangs.wait)
        mock_clock.jump(60)

    monkeypatch.setattr(sdks, "_traces", traces)
    monkeypatch.setattr(sdks, "_paths", lambda _root: iter(["first", "hangs.jar", "last"]))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(let_the_deadline_pass)
        facts = await sdks.collect(str(tmp_path))
    release.set()
    assert [found.path for found in facts.found] == ["first"]
    assert not facts.is_complete
