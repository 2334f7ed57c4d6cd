"""Check that the settings of both containers in compose.yaml match, and that the commands know these settings."""

import argparse
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from sidecar.commands import local
from sidecar.config.settings import SETTINGS
from sidecar.local.config import LocalConfig, read_config

REPOSITORY = Path(__file__).parents[2]

Services = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def services() -> Services:
    found: Services = yaml.safe_load((REPOSITORY / "compose.yaml").read_text())["services"]
    return found


@pytest.fixture(scope="module")
def flags(services: Services) -> argparse.Namespace:
    """Return the flags of `irsa-sidecar local` in compose.yaml."""
    name, *arguments = services["irsa-sidecar"]["command"]
    assert name == "local"
    parser = argparse.ArgumentParser(exit_on_error=False)
    local.add_arguments(parser)
    return parser.parse_args(arguments)


@pytest.fixture(scope="module")
def settings(services: Services, flags: argparse.Namespace) -> LocalConfig:
    """Return the settings in the file that compose.yaml mounts at the path in --config."""
    mounts = dict(volume.split(":")[:2][::-1] for volume in services["irsa-sidecar"]["volumes"])
    return read_config(REPOSITORY / mounts[str(flags.config)])


def test_application_uses_the_daemons_address(services: Services, flags: argparse.Namespace) -> None:
    application = services["app"]["environment"]
    assert application["AWS_CONTAINER_CREDENTIALS_FULL_URI"] == f"http://{flags.listen}/v1/credentials"
    assert application["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"] == flags.authorization_token_file
    assert services["app"]["network_mode"] == "service:irsa-sidecar"


def test_application_uses_the_local_sts(services: Services, settings: LocalConfig) -> None:
    url = urlsplit(services["app"]["environment"]["AWS_ENDPOINT_URL_STS"])
    assert (url.hostname, url.port) == (settings.sts_host, settings.sts_port)
    assert services["app"]["environment"]["AWS_REGION"] == settings.region


def test_health_check_calls_the_default_address(services: Services, flags: argparse.Namespace) -> None:
    assert services["irsa-sidecar"]["healthcheck"]["test"] == ["CMD", "irsa-sidecar", "probe"]
    (default,) = [setting.default for setting in SETTINGS if setting.field == "admin_listen"]
    assert flags.admin_listen.rpartition(":")[2] == str(default).rpartition(":")[2]


def test_application_can_read_but_not_write_the_secret(services: Services, flags: argparse.Namespace) -> None:
    folder = str(Path(flags.authorization_token_file).parent)
    assert f"authorization:{folder}" in services["irsa-sidecar"]["volumes"]
    assert services["app"]["volumes"] == [f"authorization:{folder}:ro"]
