"""Run docker or podman, if one of them works, with the few commands that both have."""

import json
import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def find_engine() -> str:
    """Return the engine in ENGINE, or else a working engine. A docker client without a daemon does not work."""
    if engine := os.environ.get("ENGINE"):
        return engine
    if shutil.which("docker") and subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0:
        return "docker"
    if shutil.which("podman"):
        return "podman"
    raise SystemExit("Images need docker with a running daemon, or podman (on Debian: apt-get install podman runc).")


Done = subprocess.CompletedProcess[str]


class Engine:
    """An engine that runs containers with a read-only root, an unknown user, no capabilities and no network."""

    _STRICT = (
        *("--read-only", "--user=65532:65532", "--cap-drop=ALL", "--security-opt=no-new-privileges"),
        "--no-healthcheck",  # podman's health checks need systemd
    )

    def __init__(self, command: str, image: str) -> None:
        self._command = command
        self.image = image

    def __call__(self, *arguments: str, check: bool = True) -> Done:
        done = subprocess.run([self._command, *arguments], capture_output=True, text=True, check=False)
        assert not check or done.returncode == 0, f"{self._command} {' '.join(arguments)}:\n{done.stderr}"
        return done

    def run(self, *arguments: str, options: tuple[str, ...] = (), image: str = "", network: str = "none") -> Done:
        """Run one container until it exits with any status."""
        strict = (*self._STRICT, f"--network={network}", *options)
        return self("run", "--rm", *strict, image or self.image, *arguments, check=False)

    def python(self, program: str, *, options: tuple[str, ...] = (), **how: str) -> Done:
        """Run the program with the image's Python, in a new container."""
        return self.run("-c", program, options=("--entrypoint=python", *options), **how)

    @contextmanager
    def running(
        self, *arguments: str, options: tuple[str, ...] = (), image: str = "", network: str = "none"
    ) -> Iterator[str]:
        """Run a container in the background until the block ends, and yield its name."""
        name = f"irsa-sidecar-test-{uuid.uuid4().hex[:12]}"
        strict = (*self._STRICT, f"--network={network}", *options)
        self("run", "--detach", f"--name={name}", *strict, image or self.image, *arguments)
        try:
            yield name
        finally:
            self("rm", "--force", name, check=False)

    def inspect(self, image: str = "") -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self("image", "inspect", image or self.image).stdout)[0]
        return found
