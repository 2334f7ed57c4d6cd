"""
Find the AWS SDKs in a directory by the traces that package managers and compilers leave.

Rule: no program is run. Time and the number of files are limited, and unreadable files are skipped. Only regular files
are opened, because reading a FIFO or a device may block without end. Programs are read and not mapped into memory,
because a page fault on an unresponsive volume would block every thread.
"""

import json
import os
import re
import stat
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from time import monotonic

from sidecar.doctor.checks import sdks
from sidecar.doctor.checks.sdks import FoundSdk, Sdk, SdkFacts
from sidecar.doctor.probes.guard import FILE_SECONDS, guarded, in_thread
from sidecar.files import read_regular_file

SEARCH_SECONDS = 10.0
MAX_FILES = 500_000

MAX_TEXT_BYTES = 8 * 1024 * 1024
MIN_PROGRAM_BYTES, MAX_PROGRAM_BYTES = 1024 * 1024, 512 * 1024 * 1024
"""Limits for the size of a program that is read. A Go or Rust program with an AWS SDK has several MiB."""

MIN_JAR_BYTES, MAX_JAR_BYTES = 22, 1024 * 1024 * 1024
MAX_JAR_ENTRIES = 200_000
"""
Limits for the size and the number of entries of a jar that is read.

An empty archive has 22 bytes. A large application's jar, with all its libraries, has about ten thousand entries.
"""

_BLOCK_BYTES, _TRACE_BYTES = 1024 * 1024, 256
"""
Size of the blocks in which a program is read, and size of the repeated end, in bytes.

Each block is searched together with the end of the previous block, so that no trace is split.
"""

_NOT_FILES = frozenset({"/proc", "/sys", "/dev"})

_NAMES: tuple[tuple[re.Pattern[str], Sdk], ...] = (
    (re.compile(r"botocore-([0-9][0-9.]*)[^/]*\.(?:dist|egg)-info"), sdks.BOTOCORE),
    (re.compile(r"aws-java-sdk-core-([0-9][0-9.]*)\.jar"), sdks.JAVA_1),
    (re.compile(r"(?:auth|bundle)-(2\.[0-9.]+)\.jar"), sdks.JAVA_2),
    (re.compile(r"aws-config-jvm-([0-9][0-9.]*)\.jar"), sdks.KOTLIN),
    (re.compile(r"aws-sdk-core-(3\.[0-9.]+)\.gemspec"), sdks.RUBY),
)
"""Patterns for the names of files and directories that contain a version."""

_PATHS: tuple[tuple[re.Pattern[str], Sdk], ...] = ((re.compile(r".*/aws-cli/v2/(2\.[0-9.]+)"), sdks.CLI_V2),)

_PACKAGES = {"aws-sdk": sdks.JAVASCRIPT_2, "@aws-sdk/credential-provider-node": sdks.JAVASCRIPT_3}
"""SDKs by npm package. Every client of version 3 gets its default credentials through the second package."""

_IN_PROGRAMS: tuple[tuple[re.Pattern[bytes], Sdk], ...] = (
    (re.compile(rb"dep\tgithub\.com/aws/aws-sdk-go-v2/config\tv([0-9]+\.[0-9]+\.[0-9]+)"), sdks.GO_2),
    (re.compile(rb"dep\tgithub\.com/aws/aws-sdk-go\tv([0-9]+\.[0-9]+\.[0-9]+)"), sdks.GO_1),
    (re.compile(rb"/aws-config-([0-9]+\.[0-9]+\.[0-9]+)/src/"), sdks.RUST),
)
"""Patterns for traces in programs: Go's build information, and the source paths that Rust stores for panics."""


class Search:
    """
    A search below `root`. `run` blocks and raises nothing, so call it in a thread.

    Another thread can read `facts` at any time, also while `run` hangs on a file.
    """

    def __init__(self, root: str) -> None:
        self._root = root
        self._found: tuple[FoundSdk, ...] = ()
        self._is_complete = False
        self._is_directory = True

    @property
    def facts(self) -> SdkFacts:
        return SdkFacts(self._found, self._root, self._is_complete, self._is_directory)

    def run(self) -> None:
        self._is_directory = os.path.isdir(self._root)
        stops_at = monotonic() + SEARCH_SECONDS
        for count, path in enumerate(_paths(self._root)):
            if count >= MAX_FILES or monotonic() > stops_at:
                return
            self._add(path)
        self._is_complete = True

    def _add(self, path: str) -> None:
        with suppress(Exception):  # the file's content is not ours, so an error in the content must not end the search
            self._found = tuple(dict.fromkeys((*self._found, *_traces(path))))


async def collect(root: str) -> SdkFacts:
    """
    Search below `root`. If reading a file hangs, return the SDKs found so far.

    Raises nothing.
    """
    search = Search(root)
    await guarded(in_thread(search.run), SEARCH_SECONDS + FILE_SECONDS)
    return search.facts


def _paths(root: str) -> Iterator[str]:
    """Yield the paths below `root`, except those in _NOT_FILES, without following links."""
    for directory, names, files in os.walk(root):
        names[:] = [name for name in names if os.path.join(directory, name) not in _NOT_FILES]
        for name in (*names, *files):
            yield os.path.join(directory, name)


def _traces(path: str) -> Iterator[FoundSdk]:
    """
    Yield the SDKs that this path reveals.

    Raises OSError or ValueError if the file cannot be read.
    """
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
    """Yield the SDKs whose own jars are inside this jar. Spring Boot packs applications in this way."""
    if not MIN_JAR_BYTES <= _regular_size(path) <= MAX_JAR_BYTES:
        return
    with suppress(zipfile.BadZipFile), zipfile.ZipFile(path) as jar:
        for entry in jar.namelist()[:MAX_JAR_ENTRIES]:
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
    if not MIN_PROGRAM_BYTES <= _regular_size(path) <= MAX_PROGRAM_BYTES:
        return
    with open(path, "rb") as file:
        if file.read(4) != b"\x7fELF":
            return
        tail = b""
        while block := file.read(_BLOCK_BYTES):
            yield from _in_block(tail + block, path)
            tail = block[-_TRACE_BYTES:]


def _in_block(block: bytes, path: str) -> Iterator[FoundSdk]:
    for pattern, sdk in _IN_PROGRAMS:
        match = pattern.search(block)
        if match and match.end() < len(
            block
        ):  # a match at the end may be incomplete; the next block has the whole match
            yield FoundSdk(sdk, match[1].decode(), path)


def _regular_size(path: str) -> int:
    """
    Return the size of a regular file, or -1 for any other path.

    Raises OSError if there is no such path.
    """
    status = os.stat(path)
    return status.st_size if stat.S_ISREG(status.st_mode) else -1


_READERS: tuple[tuple[str, Callable[[str], Iterator[FoundSdk]]], ...] = (
    ("/aws-sdk/package.json", _in_package_json),
    ("/credential-provider-node/package.json", _in_package_json),
    (".jar", _in_jar),
    ("/composer/installed.json", _in_composer),
    (".deps.json", _in_dotnet),
)
"""Functions that read the version in a file, by the end of the file's path."""
