"""Load images into the node's containerd, because the node cannot pull images, and kill containers."""

import hashlib
import io
import json
import platform
import subprocess
import tarfile
from pathlib import Path

from tests.cluster.layout import PAUSE_IMAGE, Layout

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def is_ready(layout: Layout) -> bool:
    return _ctr(layout, "version", check=False).returncode == 0


def load_images(layout: Layout, archive: Path) -> None:
    """Load an archive of `docker save` or `podman save`. Podman's images are renamed to docker.io names, as in Pods."""
    _ctr(layout, "images", "import", str(archive))
    for name in _ctr(layout, "images", "list", "--quiet").stdout.split():
        if name.startswith("localhost/"):
            _ctr(layout, "images", "tag", "--force", name, name.replace("localhost/", "docker.io/library/", 1))


def kill(layout: Layout, container: str) -> None:
    """Kill the container, as the kernel does when memory runs out. The Pod's status has the container's id."""
    _ctr(layout, "tasks", "kill", "--signal=SIGKILL", container.removeprefix("containerd://"))


def load_pause(layout: Layout, program: Path) -> None:
    archive = layout.state / "pause.tar"
    archive.write_bytes(_one_program_image(PAUSE_IMAGE, program.read_bytes()))
    _ctr(layout, "images", "import", str(archive))


def _ctr(layout: Layout, *arguments: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
    command = ["ctr", "--address", str(layout.containerd_socket), "--namespace", "k8s.io", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=check)


def _one_program_image(name: str, program: bytes) -> bytes:
    """Return an archive of an image with a single file, in the format of `docker save`."""
    layer = _tar({"pause": program})
    configuration = {
        "architecture": ARCHITECTURES[platform.machine()],
        "os": "linux",
        "config": {"Entrypoint": ["/pause"], "User": "65535:65535"},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
    return _tar(
        {
            "config.json": json.dumps(configuration).encode(),
            "layer.tar": layer,
            "manifest.json": json.dumps(manifest).encode(),
        }
    )


def _tar(files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o755
            archive.addfile(entry, io.BytesIO(content))
    return packed.getvalue()
