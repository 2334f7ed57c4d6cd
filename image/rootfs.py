"""
Copy all files of the image to one folder: irsa-sidecar, the locked packages, Python, and their libraries.

    python3 rootfs.py PIP REQUIREMENTS WHEEL ROOTFS [PATTERN…]

The image has no shell, no package manager and no other program, because an intruder could use them and they would need
updates. Run this script in the build stage with the Python whose files are copied. The script finds files through that
Python and its loader, so it works with any base image and architecture.

Files and folders of packages that match a PATTERN, such as PACKAGE/data, are omitted. Each PATTERN must match.
"""

import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterable, Iterator
from pathlib import Path

import authorities

VENV = Path("/opt/irsa-sidecar")

PACKAGES = Path(sysconfig.get_path("purelib", "venv", vars={"base": str(VENV), "platbase": str(VENV)}))

USER_ID = 65532

LEFT_OUT = shutil.ignore_patterns(
    *("__pycache__", "site-packages", "dist-packages", "sitecustomize.py"),
    *("test", "tests", "idlelib", "tkinter", "turtle*", "lib2to3", "ensurepip", "venv", "pydoc_data", "_pyrepl"),
    *("config-*", "*.a", "_test*", "_ctypes_test*", "_xxtest*", "xxlimited*", "xxsubtype*"),
    # These modules for terminals and databases need more shared libraries.
    *("readline.*", "_curses*", "_dbm.*", "_gdbm.*", "_sqlite3.*", "_tkinter.*", "nis.*", "curses", "dbm", "sqlite3"),
)
"""The filter that omits the parts of the standard library that no server needs."""

KNOWN_TO_THE_SYSTEM = {
    "etc/passwd": f"irsa-sidecar:x:{USER_ID}:{USER_ID}:irsa-sidecar:/:/nonexistent\n",
    "etc/group": f"irsa-sidecar:x:{USER_ID}:\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
}


def main(pip: str, requirements: str, wheel: str, rootfs: Path, *left_out: str) -> None:
    _install(pip, requirements, wheel)
    for pattern in left_out:
        _omit(pattern)
    _lay_out_authorities()
    _gather(rootfs)


def _omit(pattern: str) -> None:
    """
    Remove the files and folders of packages that match the pattern.

    Raises FileNotFoundError if none matches, because the image would be larger than expected.
    """
    found = [*PACKAGES.glob(pattern)]
    if not found:
        raise FileNotFoundError(pattern)
    for path in found:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def _install(pip: str, requirements: str, wheel: str) -> None:
    """Create a virtual environment without pip, and install the locked packages and irsa-sidecar."""
    venv.create(VENV, symlinks=True)
    install = [pip, "--python", str(VENV / "bin" / "python"), "install", "--no-compile"]
    subprocess.run([*install, "--require-hashes", "-r", requirements], check=True)
    subprocess.run([*install, "--no-deps", "--no-index", wheel], check=True)
    for script in (VENV / "bin").iterdir():
        if not script.name.startswith(("python", "irsa-sidecar")):
            script.unlink()
    shutil.rmtree(VENV / "share", ignore_errors=True)  # manual pages, which nobody reads in an image


def _lay_out_authorities() -> None:
    """
    Create the folder of authorities that the daemon reads first (`sidecar/authorities.py`).

    Reading all authorities of certifi would add 22 ms and 0.6 MiB to each start.
    """
    module = authorities.ssl_module()
    crypto = [path for path in _libraries(module) if path.name.startswith("libcrypto.")] if module else []
    if crypto:
        bundle = PACKAGES / "certifi" / "cacert.pem"
        authorities.lay_out(bundle, bundle.with_suffix(".d"), crypto[0])


def _gather(rootfs: Path) -> None:
    stdlib = Path(sysconfig.get_path("stdlib"))
    shutil.copytree(VENV, _within(rootfs, VENV), symlinks=True, ignore=shutil.ignore_patterns("tests", "_tests"))
    shutil.copytree(stdlib, _within(rootfs, stdlib), ignore=LEFT_OUT)
    _copy_with_links(VENV / "bin" / "python", rootfs)
    programs = [Path(sys.executable).resolve(), *(Path("/", so.relative_to(rootfs)) for so in rootfs.rglob("*.so"))]
    libraries = {library for program in programs for library in _libraries(program)}
    for library in (*sorted(libraries), Path("/etc/ld.so.cache"), Path("/etc/os-release")):
        _copy(library, rootfs)
    for name, text in KNOWN_TO_THE_SYSTEM.items():
        (rootfs / name).parent.mkdir(exist_ok=True)
        (rootfs / name).write_text(text)
    _tell_scanners([*libraries, programs[0], stdlib / "os.py", stdlib / "asyncio" / "base_events.py"], rootfs)


def _within(rootfs: Path, path: Path) -> Path:
    return rootfs / path.relative_to("/")


def _copy(path: Path, rootfs: Path) -> None:
    """Copy the file, if it exists, under the requested name. If the name is a link, copy the target of the link."""
    if path.exists():
        _within(rootfs, path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, _within(rootfs, path))


def _copy_with_links(path: Path, rootfs: Path) -> None:
    """Copy the file and every link on its path, because Python finds its standard library by the real path."""
    while path.is_symlink():
        target = path.parent / path.readlink()
        copied = _within(rootfs, path)
        copied.parent.mkdir(parents=True, exist_ok=True)
        copied.unlink(missing_ok=True)
        copied.symlink_to(path.readlink())
        path = target
    _copy(path, rootfs)


def _libraries(program: Path) -> Iterator[Path]:
    """Yield the shared libraries of the file and the loader itself, by the names that the loader uses."""
    listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=False).stdout
    for word in listed.split():
        if word.startswith("/") and not word.endswith(":"):
            yield Path(word)


def _tell_scanners(files: Iterable[Path], rootfs: Path) -> None:
    """
    Record the Debian packages of the files, and copy their copyright files.

    Vulnerability scanners read /var/lib/dpkg/status.d, as in distroless images. Systems other than Debian have no dpkg,
    so no packages are recorded there.
    """
    if shutil.which("dpkg-query") is None:
        return
    asked = (path for file in files for path in (file, file.resolve()))
    found = subprocess.run(["dpkg-query", "--search", *asked], capture_output=True, text=True, check=False).stdout
    for package in sorted(set(re.findall(r"^([a-z0-9+.-]+)(?::\S+)?: /", found, re.MULTILINE))):
        status = subprocess.run(["dpkg-query", "--status", package], capture_output=True, text=True, check=True).stdout
        record = rootfs / "var/lib/dpkg/status.d" / package
        record.parent.mkdir(parents=True, exist_ok=True)
        record.write_text(status)
        _copy(Path("/usr/share/doc", package, "copyright"), rootfs)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], Path(sys.argv[4]), *sys.argv[5:])
