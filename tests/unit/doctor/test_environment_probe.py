"""Test that the environment probe reads AWS's configuration files as an SDK does."""

import os
import sys
from pathlib import Path

import pytest

from sidecar.daemon.credentials_file import HEADER
from sidecar.doctor.probes import environment


@pytest.mark.parametrize(
    ("content", "settings"),
    [
        ("[default]\naws_access_key_id = A\naws_secret_access_key = B\n", ("aws_access_key_id",)),
        ("[profile default]\nsso_session = x\n", ("sso_session",)),
        ("[default]\nrole_arn = arn\nsource_profile = base\n", ("role_arn",)),
        ("[default]\nrole_arn = arn\ncredential_source = EcsContainer\n", None),
        ("[other]\naws_access_key_id = A\n", None),
        (f"{HEADER}[default]\naws_access_key_id = A\n", None),
        ("[default]\nregion = eu-west-1\n", None),
        ("no section\n", None),
        ("[default\n", None),
    ],
)
def test_credentials_of_the_default_profile_are_found(
    tmp_path: Path, content: str, settings: tuple[str, ...] | None
) -> None:
    (tmp_path / "config").write_text(content)
    facts = environment.collect({"AWS_CONFIG_FILE": str(tmp_path / "config")}, ())
    assert facts.files == (() if settings is None else ((str(tmp_path / "config"), settings),))
    assert facts.has_region_file is ("region" in content)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"[default]\nregion\n  continued = x\n", "Python's configuration parser fails on it"),
        (b"no section\n", "it is not a configuration file"),
        (b"[default\n", "it is not a configuration file"),
        (b"[default]\n" + b"a" * environment.MAX_CONFIGURATION_BYTES, "it is over 1024 KiB"),
    ],
)
def test_invalid_configuration_file_is_reported(tmp_path: Path, content: bytes, problem: str) -> None:
    (tmp_path / "config").write_bytes(content)
    facts = environment.collect({"AWS_CONFIG_FILE": str(tmp_path / "config")}, ())
    # Python 3.13 and newer raise an error of configparser, or accept the file.
    others = {"", "it is not a configuration file"} if "parser" in problem and sys.version_info >= (3, 13) else set()
    assert dict(facts.unreadable).get(str(tmp_path / "config"), "") in {problem, *others}
    assert facts.files == ()


def test_configuration_path_to_a_special_file_never_blocks(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    paths = [str(tmp_path / "fifo"), str(tmp_path), "/dev/zero", "/dev/null", "\0", "/nowhere"]
    observed = {path: dict(environment.collect({"AWS_CONFIG_FILE": path}, ()).unreadable).get(path) for path in paths}
    assert observed == {
        str(tmp_path / "fifo"): "it is not a regular file",
        str(tmp_path): "it is not a regular file",
        "/dev/zero": "it is not a regular file",
        "/dev/null": None,
        "\0": "the path is not valid",
        "/nowhere": None,
    }


def test_home_directory_and_readable_tokens_are_found(tmp_path: Path) -> None:
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "config").write_text("[default]\ncredential_process = x\n")
    (tmp_path / "token").touch()
    for environ in ({"HOME": str(tmp_path)}, {"HOME": str(tmp_path), "AWS_CONFIG_FILE": "~/.aws/config"}):
        facts = environment.collect(environ, [str(tmp_path / "token"), "/nowhere"])
        assert facts.files == ((str(tmp_path / ".aws" / "config"), ("credential_process",)),)
        assert facts.tokens == (str(tmp_path / "token"),)
