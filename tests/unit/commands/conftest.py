"""Provide the environment of a command that runs in the test's process."""

import pytest

from sidecar.commands import credentials as command


@pytest.fixture
def environ(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Return the command's environment variables, initially none. The command does not wait for an empty daemon."""
    variables: dict[str, str] = {}
    monkeypatch.setattr("os.environ", variables)
    monkeypatch.setattr(command, "EMPTY_DAEMON_SECONDS", 0.0)
    return variables
