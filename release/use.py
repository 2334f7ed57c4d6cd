"""
Use a release like a user: install the wheel, and run the images from a registry.

The registry is crane's, on a loopback port. Images are pulled by the digest that the signed statement names.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from release import artefacts
from release.images import TARGETS
from release.publish import push_image

IDENTITY = """
import os, urllib.request
token = open(os.environ["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"]).read()
url = os.environ["AWS_CONTAINER_CREDENTIALS_FULL_URI"]
request = urllib.request.Request(url, headers={"Authorization": token})
print(urllib.request.urlopen(request).read().decode())
"""
"""Program that gets credentials as an AWS SDK does."""


def use_package(folder: Path, version: str) -> None:
    """Install the wheel into a new environment, and get credentials under `irsa-sidecar local`."""
    wheel, _ = artefacts.packages(version)
    with tempfile.TemporaryDirectory() as scratch:
        venv.create(scratch, with_pip=True)
        programs = Path(scratch, "bin")
        pip = [str(programs / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        _run([*pip, f"{folder.resolve() / wheel}[local]"])
        shown = _run([str(programs / "irsa-sidecar"), "--version"])
        _equal(shown.strip(), f"irsa-sidecar {version}", "the version of the wheel")
        local = [str(programs / "irsa-sidecar"), "local", "--", str(programs / "python"), "-c", IDENTITY]
        _equal(json.loads(_run(local))["AccessKeyId"][:4], "ASIA", "the access key of `irsa-sidecar local`")


def use_images(folder: Path, version: str, crane: Path, engine: str) -> None:
    """Push both images to a registry, pull them by digest, and run the tests of the images on them."""
    image = f"localhost/irsa-sidecar-release-check:{os.getpid()}"
    names = {target: f"{image}{suffix}" for target, suffix in TARGETS.items()}
    try:
        with registry(crane) as address:
            for tag, name in zip(artefacts.tags(version), names.values(), strict=True):
                reference, _ = push_image(crane, folder / artefacts.image(tag), f"{address}/irsa-sidecar")
                _pull(engine, reference, name)
        test = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/image"]
        subprocess.run(test, env=os.environ | {"IMAGE": image, "ENGINE": engine}, check=True)
    finally:
        subprocess.run([engine, "image", "rm", *names.values()], capture_output=True, check=False)


@contextmanager
def registry(crane: Path) -> Iterator[str]:
    """Run a registry on a free loopback port, and yield its address."""
    command = [str(crane), "registry", "serve", "--address=127.0.0.1:0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield f"127.0.0.1:{_port(process.stderr)}"
        finally:
            process.terminate()


def _port(log: IO[str] | None) -> str:
    """Return the port in the first line of the registry's log."""
    found = re.search(r"serving on port (\d+)", log.readline() if log else "")
    if found is None:
        raise SystemExit("release: error: crane's registry did not start.")
    return found[1]


def _pull(engine: str, reference: str, name: str) -> None:
    plain = ["--tls-verify=false"] if "podman" in engine else []
    _run([engine, "pull", "--quiet", *plain, reference])
    _run([engine, "tag", reference, name])
    _run([engine, "image", "rm", reference])


def _run(command: list[str]) -> str:
    """Return the output of the program. Its errors go to stderr."""
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


def _equal(found: str, expected: str, what: str) -> None:
    if found != expected:
        raise SystemExit(f"release: error: {what} is {found!r}: {expected!r} was expected.")
