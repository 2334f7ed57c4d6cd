"""Test the archive of the kubectl plugin and its manifest, by the rules in krew's documentation."""

import io
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from release import plugin_launcher
from release.archive import compress, entries, tar
from release.artefacts import files
from release.plugin import LAUNCHER, MANIFEST, PLATFORMS, archive_entries, archive_names, manifest

DIGESTS = dict.fromkeys(PLATFORMS, "0" * 64)
SPEC = manifest("1.2.3", DIGESTS)["spec"]


def test_manifest_follows_the_rules_of_krew() -> None:
    """Check the rules of https://krew.sigs.k8s.io/docs/developer-guide/plugin-manifest/ and of its naming guide."""
    found = manifest("1.2.3", DIGESTS)
    assert (found["apiVersion"], found["kind"]) == ("krew.googlecontainertools.github.com/v1alpha2", "Plugin")
    assert re.fullmatch("[a-z0-9-]+", found["metadata"]["name"])
    assert f"{found['metadata']['name']}.yaml" == MANIFEST
    assert re.fullmatch(r"v\d+\.\d+\.\d+", SPEC["version"])
    assert SPEC["homepage"].startswith("https://")
    assert "\n" not in SPEC["shortDescription"]
    assert len(SPEC["shortDescription"]) <= 50
    assert not SPEC["shortDescription"].endswith(".")
    assert max(map(len, SPEC["description"].splitlines())) <= 120


@pytest.mark.parametrize(
    "platform", SPEC["platforms"], ids=lambda each: "-".join(each["selector"]["matchLabels"].values())
)
def test_platform_has_an_archive_with_the_launcher(platform: dict[str, object], tmp_path: Path) -> None:
    assert set(platform) == {"selector", "uri", "sha256", "bin", "files"}
    assert str(platform["uri"]).startswith("https://")
    assert str(platform["uri"]).rpartition("/")[2] in archive_names("1.2.3")
    assert re.fullmatch("[0-9a-f]{64}", str(platform["sha256"]))
    assert platform["bin"] in {entry.path for entry in archive_entries([tmp_path])}
    assert platform["files"] == [{"from": "*", "to": "."}]


def test_release_has_the_archives_and_the_manifest() -> None:
    assert {MANIFEST, *archive_names("1.2.3")} <= files("1.2.3", ["amd64"])


def test_archive_has_no_file_about_this_machine(tmp_path: Path) -> None:
    kept = ["a/__init__.py", "a.dist-info/METADATA"]
    for name in (*kept, "a/__pycache__/a.pyc", "a.dist-info/RECORD", "bin/a", "share/man/a.1", ".lock"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = entries(compress(tar(archive_entries([tmp_path]), 0)))
    assert {entry.path for entry in found} == {LAUNCHER, *(f"packages/{name}" for name in kept)}
    assert [entry.path for entry in found if entry.mode == 0o755] == [LAUNCHER]


def test_archive_has_the_compiled_modules_of_each_python(tmp_path: Path) -> None:
    for python in ("3.11", "3.12"):
        (tmp_path / python).mkdir()
        (tmp_path / python / f"a.cpython-{python}.so").touch()
        (tmp_path / python / "a.py").touch()
    found = [entry.path for entry in archive_entries([tmp_path / "3.11", tmp_path / "3.12"])]
    assert sorted(found[1:]) == ["packages/a.cpython-3.11.so", "packages/a.cpython-3.12.so", "packages/a.py"]


def test_launcher_runs_from_a_link(tmp_path: Path) -> None:
    """Krew links the launcher into its folder `bin`."""
    package = tmp_path / "packages" / "sidecar"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text("import sys\ndef main():\n    print(*sys.argv[1:])\n    return 3\n")
    content = tar(archive_entries([tmp_path / "packages"]), 0)
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        archive.extractall(tmp_path / "store", filter="data")
    (tmp_path / "link").symlink_to(tmp_path / "store" / LAUNCHER)
    done = subprocess.run(
        [sys.executable, tmp_path / "link", "status", "--all"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (3, "status --all\n", "")


@pytest.mark.parametrize("version", [(3, 10), (3, 15)])
def test_launcher_reports_another_python(
    version: tuple[int, int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "version_info", version)
    assert plugin_launcher.main() == 2
    assert f"python3 is Python {version[0]}.{version[1]}, which is not supported" in capsys.readouterr().err
