"""
Build both images for each platform with docker or podman.

BASE is the base image of the Dockerfile. `{arch}` in it is replaced by the architecture, because a base image from this
machine has a name for each architecture.
"""

import hashlib
import json
import platform
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from release.oci import PlatformImage, SavedImage, image_index, instant, layout, platform_image, read_saved
from release.programs import build_with
from release.source import URL, Source

ARCHITECTURES = ("amd64", "arm64")
"""Architectures of a release that is published."""

NATIVE = {"x86_64": "amd64", "aarch64": "arm64"}.get(machine := platform.machine(), machine)
"""Architecture of this machine."""

TARGETS = {"run": "", "tools": "-tools"}
"""Targets of the Dockerfile, with the suffix after the version in the tags of their images."""

LABEL = "org.opencontainers.image."
"""Prefix of the annotations that the OCI image specification defines (annotations.md)."""

_PINNED = re.compile(r"(?P<name>.+?)@(?P<digest>sha256:[0-9a-f]{64})")


@dataclass(frozen=True)
class Engine:
    """Docker or podman, with the base image of the Dockerfile. A fresh build ignores steps of earlier builds."""

    command: str
    base: str
    architectures: tuple[str, ...] = ARCHITECTURES
    fresh: bool = False

    def base_of(self, architecture: str) -> str:
        return self.base.replace("{arch}", architecture)

    @property
    def build_base(self) -> str:
        """Return the base image for the architecture of the machine that builds."""
        return self.base_of(NATIVE)


def build_image(engine: Engine, source: Source, files: Path, target: str) -> tuple[str, bytes]:
    """Build one target for all architectures. Return its tag, and the archive of its image layout."""
    tag = f"{source.version}{TARGETS[target]}"
    images = [_platform_image(engine, source, files, target, architecture) for architecture in engine.architectures]
    index = image_index(images, labels(source, engine.base))
    return tag, layout(index, images, tag, source.epoch)


def labels(source: Source, base: str, digest: str = "") -> dict[str, str]:
    """Return the labels that link an image with its source and its base."""
    pinned = _PINNED.fullmatch(base)
    named = {
        "title": "irsa-sidecar",
        "description": "AWS credentials for Pods from their service account token",
        "licenses": "Apache-2.0",
        "source": URL,
        "url": URL,
        "documentation": f"{URL}/tree/v{source.version}/docs",
        "version": source.version,
        "revision": source.revision,
        "created": instant(source.epoch),
        "base.name": "" if "{arch}" in base else base.partition("@")[0],
        "base.digest": digest or (pinned["digest"] if pinned else ""),
    }
    return {LABEL + name: value for name, value in sorted(named.items()) if value}


def base_in(dockerfile: str) -> str:
    """Return the base image that the Dockerfile names."""
    return next(line.removeprefix("ARG BASE=") for line in dockerfile.splitlines() if line.startswith("ARG BASE="))


def base_digest(engine: Engine, base: str) -> str:
    """Return the digest in the base image's name, or else the digest that the engine reports for a local image."""
    if pinned := _PINNED.fullmatch(base):
        return pinned["digest"]
    command = [engine.command, "image", "inspect", base]
    found = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)[0]
    return str(found.get("Digest") or found["Id"])


def _platform_image(engine: Engine, source: Source, files: Path, target: str, architecture: str) -> PlatformImage:
    base = engine.base_of(architecture)
    digest = base_digest(engine, base)
    tag = f"localhost/irsa-sidecar-release:{_unique(source, target, architecture, digest)}"
    flags = [*_platforms(engine, architecture), f"--target={target}", f"--tag={tag}"]
    sys.stderr.write(f"release: image {target} for {architecture}\n")
    build_with([*_build_command(engine, source, base), *flags, "."], files, source.epoch)
    try:
        return platform_image(_save(engine, tag), labels(source, base, digest), source.epoch)
    finally:
        subprocess.run([engine.command, "image", "rm", tag], capture_output=True, check=False)


def _platforms(engine: Engine, architecture: str) -> list[str]:
    """Return the flags for an architecture. Podman 4 does not define the variables that docker defines."""
    wanted = [f"--platform=linux/{architecture}"]
    if "podman" not in engine.command:
        return wanted
    return [*wanted, f"--build-arg=BUILDPLATFORM=linux/{NATIVE}", f"--build-arg=TARGETPLATFORM=linux/{architecture}"]


def _build_command(engine: Engine, source: Source, base: str) -> list[str]:
    offline = ["--network=none"] if base.startswith("localhost/") else []
    named = {"BASE": base, "BUILD_BASE": engine.build_base, "SOURCE_DATE_EPOCH": source.epoch}
    arguments = [f"--build-arg={name}={value}" for name, value in named.items()]
    fresh = ["--no-cache"] if engine.fresh else []
    return [engine.command, "build", "--quiet", *fresh, *offline, *arguments]


def _unique(source: Source, *parts: str) -> str:
    """Return a tag that no other build on this machine uses at the same time."""
    text = "\0".join([source.revision, str(source.repository), *parts])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _save(engine: Engine, tag: str) -> SavedImage:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "image.tar")
        subprocess.run([engine.command, "save", "--output", str(path), tag], capture_output=True, check=True)
        return read_saved(path.read_bytes())
