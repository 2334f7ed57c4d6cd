"""Build the images for a cluster's node: the images of this checkout, and an application with boto3."""

import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

from tests.cluster.applications import APPLICATION_IMAGE, IMAGE, TOOLS_IMAGE
from tests.cluster.cluster import REPOSITORY
from tests.image.engine import find_engine


def save_images(folder: Path) -> Path:
    """Build all images, and return an archive of them. A second build takes seconds if nothing changed."""
    engine, archive = find_engine(), folder / "images.tar"
    _run("make", "--silent", "images", f"IMAGE={IMAGE}", f"ENGINE={engine}")
    for package in ("boto3", "s3transfer"):
        found = find_spec(package)
        assert found is not None
        assert found.origin is not None
        shutil.copytree(Path(found.origin).parent, folder / package)
    build = [engine, "build", "--network=none", f"--build-arg=TOOLS={TOOLS_IMAGE}", f"--tag={APPLICATION_IMAGE}"]
    _run(*build, f"--file={Path(__file__).parent / 'Containerfile'}", str(folder))
    save = [engine, "save", f"--output={archive}"]
    several = ["--multi-image-archive", "--format=docker-archive"] if "podman" in engine else []
    _run(*save, *several, IMAGE, TOOLS_IMAGE, APPLICATION_IMAGE)
    return archive


def _run(*command: str) -> None:
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}:\n{done.stdout}{done.stderr}"
