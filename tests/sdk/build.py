"""
Build each client once: `python -m tests.sdk.build [NAME…]`.

A build is in `.sdks/FOLDER-HASH`. The hash covers all inputs: the client's folder with its lock file, the recipe, and
the version of Python. Before any build, the program reports the names of missing toolchains.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.sdk.catalogue import BY_NAME, CLIENTS, ROOT, Client

BUILDS = ROOT / ".sdks"
AT_ONCE = 3
"""The number of parallel builds. Some builds wait for the network while others use the cores to compile."""

_COPY_DEPENDENCIES = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
"""The only Maven plugin that the build needs and downloads."""


class BuildError(Exception):
    """A missing toolchain, or the output of a failed toolchain."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """
    The build and the command of one kind of client: required tools, build steps in a copy of the folder, and program.

    {python} is this Python, {target} the build folder, {program} the client's program.
    """

    tools: tuple[str, ...]
    steps: tuple[tuple[str, ...], ...]
    run: tuple[str, ...]


RECIPES = {
    "dev": Recipe((), (), ("{python}", "-m", "tests.sdk.clients.{program}")),
    "venv": Recipe(
        (),
        (
            ("{python}", "-m", "venv", "--without-pip", "venv"),
            (
                *("{python}", "-m", "pip", "--python", "venv/bin/python", "install", "--quiet"),
                *("--disable-pip-version-check", "--require-hashes", "-r", "requirements.txt"),
            ),
        ),
        ("{target}/venv/bin/python", "-m", "tests.sdk.clients.{program}"),
    ),
    "node": Recipe(
        ("node", "npm"),
        (("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"),),
        ("node", "{target}/{program}.mjs"),
    ),
    "go": Recipe(("go",), (("go", "build", "-o", "bin/", "./..."),), ("{target}/bin/{program}",)),
    "java": Recipe(
        ("java", "javac", "mvn"),
        (
            ("mvn", "--batch-mode", "--quiet", "--strict-checksums", _COPY_DEPENDENCIES, "-DoutputDirectory=lib"),
            (
                "javac",
                "-Xlint:all",
                "-Werror",
                "-cp",
                "lib/*",
                "-d",
                "classes",
                "RequestLoop.java",
                "V1.java",
                "V2.java",
            ),
        ),
        # A client runs for seconds, so the optimizing compiler and a parallel garbage collector would not help.
        ("java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp", "{target}/classes:{target}/lib/*", "{program}"),
    ),
    "rust": Recipe(("cargo",), (("cargo", "build", "--locked", "--quiet"),), ("{target}/target/debug/{program}",)),
}

NOTHING_ELSE = {"GOTOOLCHAIN": "local", "GOFLAGS": "-mod=readonly -buildvcs=false"}
"""The variables that prevent a build from downloading a toolchain, changing a lock file or reading git's history."""


def missing_tools(client: Client) -> list[str]:
    return [tool for tool in RECIPES[client.recipe].tools if shutil.which(tool) is None]


def command(client: Client) -> list[str]:
    """Return the command of the client's program. The command works only in the folder ROOT."""
    return _filled(RECIPES[client.recipe].run, client)


def is_built(client: Client) -> bool:
    return not RECIPES[client.recipe].steps or (target(client) / ".built").exists()


def target(client: Client) -> Path:
    """Return the folder for the build of the client's folder, which may contain several clients."""
    digest = hashlib.sha256(repr((RECIPES[client.recipe], sys.version)).encode())
    for path in sorted(client.folder.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            digest.update(f"{path.relative_to(client.folder)}\0".encode() + path.read_bytes() + b"\0")
    return BUILDS / f"{client.folder_name}-{digest.hexdigest()[:12]}"


def build(client: Client) -> str:
    """
    Build the client's folder, remove older builds, and return a line for the log.

    Raises BuildError if a step fails.
    """
    started, place = time.monotonic(), target(client)
    for old in BUILDS.glob(f"{client.folder_name}-*"):
        shutil.rmtree(old)
    shutil.copytree(client.folder, place)
    for step in RECIPES[client.recipe].steps:
        _run(_filled(step, client), place)
    (place / ".built").touch()
    return f"{client.folder_name} built in {time.monotonic() - started:.0f} s"


def build_all(clients: Iterable[Client]) -> None:
    """
    Build each folder that is not built yet, several at the same time.

    Raises BuildError if a tool is missing or a step fails.
    """
    clients = list(clients)
    missing = {tool: client.title for client in clients for tool in missing_tools(client)}
    if missing:
        raise BuildError("\n".join(f"{tool} is not installed: {title} needs it." for tool, title in missing.items()))
    wanted = {target(client): client for client in clients if not is_built(client)}.values()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for output in pool.map(build, wanted):
            print(output, flush=True)


def _run(words: list[str], place: Path) -> None:
    done = subprocess.run(
        words,
        cwd=place,
        env=os.environ | NOTHING_ELSE,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise BuildError(f"in {place}: {' '.join(words)}\nended with {done.returncode}:\n{done.stdout}")


def _filled(words: Sequence[str], client: Client) -> list[str]:
    values = {"python": sys.executable, "target": str(target(client)), "program": client.program}
    return [word.format_map(values) for word in words]


if __name__ == "__main__":
    try:
        build_all([BY_NAME[name] for name in sys.argv[1:]] or CLIENTS)
    except BuildError as error:
        sys.exit(str(error))
