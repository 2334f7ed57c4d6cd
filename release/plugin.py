"""
Build the archives of the kubectl plugin, and the manifest with which krew installs them.

An archive contains a launcher, irsa-sidecar and all locked packages, so krew installs no package. The names of compiled
modules contain the version of Python, so one folder serves all versions.

Rule: an archive depends only on the wheel of irsa-sidecar, the locked packages and the commit's time.
"""

import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from release.archive import Entry, compress, tar
from release.checksums import sha256
from release.plugin_launcher import NEWEST, OLDEST
from release.programs import build_with

LAUNCHER = "kubectl-irsa_sidecar"
"""The name under which kubectl finds the plugin `irsa-sidecar`."""

MANIFEST = "irsa-sidecar.yaml"

REPOSITORY = "https://github.com/irsa-sidecar/irsa-sidecar"

PYTHONS = tuple(f"3.{minor}" for minor in range(OLDEST[1], NEWEST[1] + 1))

PLATFORMS: Mapping[tuple[str, str], str] = {
    ("linux", "amd64"): "x86_64-unknown-linux-gnu",
    ("linux", "arm64"): "aarch64-unknown-linux-gnu",
    ("darwin", "arm64"): "aarch64-apple-darwin",
}
"""
uv's name of each platform, by the operating system and architecture in krew.

Macs with Intel processors are missing, because `cryptography` has no wheel for them.
"""

_DESCRIPTION = """\
irsa-sidecar gives Pods AWS credentials of an IAM role. This plugin shows the state of the sidecars in a cluster,
finds the problem of a Pod without credentials, audits a cluster and its account, and sets up roles.
"""

_CAVEATS = f"The plugin needs Python {PYTHONS[0]} to {PYTHONS[-1]} as python3.\n"

_LOCAL_FILES = frozenset({"RECORD", "INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json"})
"""Files that describe the installation on this machine."""


def archive_name(version: str, system: str, architecture: str) -> str:
    return f"{LAUNCHER}-{version}-{system}-{architecture}.tar.gz"


def archive_names(version: str) -> list[str]:
    return [archive_name(version, *platform) for platform in PLATFORMS]


def build_plugin(files: Path, output: Path, version: str, epoch: int) -> None:
    """Write the archive of each platform, and the manifest. The wheel is already in the output folder."""
    [wheel] = output.glob("irsa_sidecar-*.whl")
    for platform, target in PLATFORMS.items():
        with tempfile.TemporaryDirectory() as scratch:
            folders = [Path(scratch, python) for python in PYTHONS]
            for folder in folders:
                place = ["--target", str(folder), "--python-platform", target, "--python-version", folder.name]
                _install(files, wheel, place, epoch)
            content = compress(tar(archive_entries(folders), epoch))
        (output / archive_name(version, *platform)).write_bytes(content)
    digests = {platform: sha256(output / archive_name(version, *platform)) for platform in PLATFORMS}
    (output / MANIFEST).write_text(yaml.dump(manifest(version, digests), Dumper=_Dumper, sort_keys=False, width=200))


class _Dumper(yaml.SafeDumper):
    """A dumper that writes text of several lines as in krew's index."""

    def represent_str(self, text: str) -> yaml.ScalarNode:
        style = "|" if "\n" in text else None
        return self.represent_scalar("tag:yaml.org,2002:str", text, style)


_Dumper.add_representer(str, _Dumper.represent_str)


def _install(files: Path, wheel: Path, place: list[str], epoch: int) -> None:
    """Install the locked packages and the wheel. `place` are the flags for the folder, the platform and the Python."""
    install = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:"]
    lock = str(files / "requirements" / "tools.txt")
    build_with([*install, *place, "--require-hashes", "--requirement", lock], files, epoch)
    build_with([*install, *place, str(wheel.resolve())], files, epoch)


def archive_entries(folders: Iterable[Path]) -> list[Entry]:
    """Return the launcher, and the packages of all folders, without the files that describe this machine."""
    launcher = Path(__file__).with_name("plugin_launcher.py").read_bytes()
    found = {LAUNCHER: Entry(LAUNCHER, launcher, mode=0o755)}
    for folder in folders:
        found |= {entry.path: entry for entry in _packages(folder)}
    return list(found.values())


def _packages(folder: Path) -> Iterator[Entry]:
    for path in folder.rglob("*"):
        parts = path.relative_to(folder).parts
        is_local = parts[0] in {"bin", "share", ".lock"} or path.name in _LOCAL_FILES or "__pycache__" in parts
        if path.is_file() and not is_local:
            yield Entry("/".join(("packages", *parts)), path.read_bytes())


def manifest(version: str, digests: Mapping[tuple[str, str], str]) -> Mapping[str, Any]:
    """Return the manifest for krew. `digests` are the SHA-256 of the archives."""
    return {
        "apiVersion": "krew.googlecontainertools.github.com/v1alpha2",
        "kind": "Plugin",
        "metadata": {"name": "irsa-sidecar"},
        "spec": {
            "version": f"v{version}",
            "homepage": REPOSITORY,
            "shortDescription": "Show and check the AWS credentials of Pods",
            "description": _DESCRIPTION,
            "caveats": _CAVEATS,
            "platforms": list(_platforms(version, digests)),
        },
    }


def _platforms(version: str, digests: Mapping[tuple[str, str], str]) -> Iterable[Mapping[str, Any]]:
    for (system, architecture), digest in digests.items():
        yield {
            "selector": {"matchLabels": {"os": system, "arch": architecture}},
            "uri": f"{REPOSITORY}/releases/download/v{version}/{archive_name(version, system, architecture)}",
            "sha256": digest,
            "bin": LAUNCHER,
            "files": [{"from": "*", "to": "."}],
        }
