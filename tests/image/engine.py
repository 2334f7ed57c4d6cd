"""Docker or podman, whichever answers here: the few commands of theirs that are used mean the same to both."""

import json
import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def find_engine() -> str:
    """ENGINE if that is set. A docker client without a daemon to speak to does not count."""
    if engine := os.environ.get("ENGINE"):
        return engine
    if shutil.which("docker") and subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0:
        return "docker"
    if shutil.which("podman"):
        return "podman"
    raise SystemExit("Images need docker with a running daemon, or podman (on Debian: apt-get install podman runc).")


Done = subprocess.CompletedProcess[str]


class Engine:
    """Runs containers as a strict cluster does: a read-only root, no user that is known, no right and no network."""

    _STRICT = (
        *("--read-only", "--user=65532:65532", "--cap-drop=ALL", "--security-opt=no-new-privileges"),
        "--no-healthcheck",  # podman wants systemd for it
    )

    def __init__(self, command: str, image: str) -> None:
        self._command = command
        self.image = image

    def __call__(self, *arguments: str, check: bool = True) -> Done:
        done = subprocess.run([self._command, *arguments], capture_output=True, text=True, check=False)
        assert not check or done.returncode == 0, f"{self._command} {' '.join(arguments)}:\n{done.stderr}"
        return done

    def run(self, *arguments: str, options: tuple[str, ...] = (), image: str = "", network: str = "none") -> Done:
        """One container to its end, whatever that is."""
        strict = (*self._STRICT, f"--network={network}", *options)
        return self("run", "--rm", *strict, image or self.image, *arguments, check=False)

    def python(self, program: str, *, options: tuple[str, ...] = (), **how: str) -> Done:
        """Python of the image, in a container of its own."""
        return self.run("-c", program, options=("--entrypoint=python", *options), **how)

    @contextmanager
    def running(
        self, *arguments: str, options: tuple[str, ...] = (), image: str = "", network: str = "none"
    ) -> Iterator[str]:
        """The name of a container that runs in the background until the end."""
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
