"""
The AWS SDKs in a tree of files, by the traces that package managers and compilers leave.

Nothing is run. Time and the number of files are bounded, and a file that cannot be read is passed over.
"""

import json
import mmap
import os
import re
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from time import monotonic

from sidecar.doctor import sdks
from sidecar.doctor.sdks import FoundSdk, Sdk, SdkFacts
from sidecar.regular_file import read_regular_file

LOOK_SECONDS = 10.0
MOST_FILES = 500_000

MAX_TEXT_BYTES = 8 * 1024 * 1024
LEAST_PROGRAM_BYTES, MOST_PROGRAM_BYTES = 1024 * 1024, 512 * 1024 * 1024
"""A Go or Rust program with an AWS SDK in it is some MiB."""

_NOT_FILES = frozenset({"/proc", "/sys", "/dev"})

_NAMES: tuple[tuple[re.Pattern[str], Sdk], ...] = (
    (re.compile(r"botocore-([0-9][0-9.]*)[^/]*\.(?:dist|egg)-info"), sdks.BOTOCORE),
    (re.compile(r"aws-java-sdk-core-([0-9][0-9.]*)\.jar"), sdks.JAVA_1),
    (re.compile(r"(?:auth|bundle)-(2\.[0-9.]+)\.jar"), sdks.JAVA_2),
    (re.compile(r"aws-config-jvm-([0-9][0-9.]*)\.jar"), sdks.KOTLIN),
    (re.compile(r"aws-sdk-core-(3\.[0-9.]+)\.gemspec"), sdks.RUBY),
)
"""Names, of a file or a directory, that hold a version."""

_PATHS: tuple[tuple[re.Pattern[str], Sdk], ...] = ((re.compile(r".*/aws-cli/v2/(2\.[0-9.]+)"), sdks.CLI_V2),)

_PACKAGES = {"aws-sdk": sdks.JAVASCRIPT_2, "@aws-sdk/credential-provider-node": sdks.JAVASCRIPT_3}
"""Of npm: the second is what every client of version 3 has its default chain from."""

_IN_PROGRAMS: tuple[tuple[re.Pattern[bytes], Sdk], ...] = (
    (re.compile(rb"dep\tgithub\.com/aws/aws-sdk-go-v2/config\tv([0-9]+\.[0-9]+\.[0-9]+)"), sdks.GO_2),
    (re.compile(rb"dep\tgithub\.com/aws/aws-sdk-go\tv([0-9]+\.[0-9]+\.[0-9]+)"), sdks.GO_1),
    (re.compile(rb"/aws-config-([0-9]+\.[0-9]+\.[0-9]+)/src/"), sdks.RUST),
)
"""Go's build information, and the paths of sources that Rust keeps for panics."""


def look(root: str) -> SdkFacts:
    """Raises nothing."""
    found: dict[FoundSdk, None] = {}
    stops_at, is_whole = monotonic() + LOOK_SECONDS, True
    for count, path in enumerate(_paths(root)):
        if count >= MOST_FILES or monotonic() > stops_at:
            is_whole = False
            break
        with suppress(OSError, ValueError):
            found.update(dict.fromkeys(_traces(path)))
    return SdkFacts(tuple(found), root, is_whole)


def _paths(root: str) -> Iterator[str]:
    """Files, and directories whose names tell a version, without following links."""
    for directory, names, files in os.walk(root):
        names[:] = [name for name in names if os.path.join(directory, name) not in _NOT_FILES]
        for name in (*names, *files):
            yield os.path.join(directory, name)


def _traces(path: str) -> Iterator[FoundSdk]:
    """The SDKs that this path is a trace of. Raises OSError or ValueError for what cannot be read."""
    name = os.path.basename(path)
    for table, text in ((_NAMES, name), (_PATHS, path)):
        for pattern, sdk in table:
            if match := pattern.fullmatch(text):
                yield FoundSdk(sdk, match[1].rstrip("."), path)
    for suffix, read in _READERS:
        if path.endswith(suffix):
            yield from read(path)
    if not os.path.splitext(name)[1] and not os.path.islink(path) and os.path.isfile(path):
        yield from _in_program(path)


def _in_package_json(path: str) -> Iterator[FoundSdk]:
    package = json.loads(read_regular_file(path, MAX_TEXT_BYTES) or b"{}")
    sdk = _PACKAGES.get(str(package.get("name"))) if isinstance(package, dict) else None
    if sdk is not None:
        yield FoundSdk(sdk, str(package.get("version")), path)


def _in_jar(path: str) -> Iterator[FoundSdk]:
    """Jars within a jar, as Spring Boot packs them."""
    with suppress(zipfile.BadZipFile), zipfile.ZipFile(path) as jar:
        for entry in jar.namelist():
            for pattern, sdk in _NAMES:
                if match := pattern.fullmatch(entry.rpartition("/")[2]):
                    yield FoundSdk(sdk, match[1].rstrip("."), f"{path}!{entry}")


def _in_composer(path: str) -> Iterator[FoundSdk]:
    installed = json.loads(read_regular_file(path, MAX_TEXT_BYTES) or b"{}")
    packages = installed.get("packages", []) if isinstance(installed, dict) else installed
    for package in packages:
        if isinstance(package, dict) and package.get("name") == "aws/aws-sdk-php":
            yield FoundSdk(sdks.PHP, str(package.get("version")).removeprefix("v"), path)


def _in_dotnet(path: str) -> Iterator[FoundSdk]:
    content = read_regular_file(path, MAX_TEXT_BYTES) or b""
    if match := re.search(rb'"AWSSDK\.Core/([0-9.]+)"', content):
        yield FoundSdk(sdks.DOTNET, match[1].decode(), path)


def _in_program(path: str) -> Iterator[FoundSdk]:
    if not LEAST_PROGRAM_BYTES <= os.path.getsize(path) <= MOST_PROGRAM_BYTES:
        return
    with open(path, "rb") as file:
        if file.read(4) != b"\x7fELF":
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as program:
            for pattern, sdk in _IN_PROGRAMS:
                if match := pattern.search(program):
                    yield FoundSdk(sdk, match[1].decode(), path)


_READERS: tuple[tuple[str, Callable[[str], Iterator[FoundSdk]]], ...] = (
    ("/aws-sdk/package.json", _in_package_json),
    ("/credential-provider-node/package.json", _in_package_json),
    (".jar", _in_jar),
    ("/composer/installed.json", _in_composer),
    (".deps.json", _in_dotnet),
)
"""Files that name a version inside, by how their path ends."""
