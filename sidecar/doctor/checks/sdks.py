"""Check that the AWS SDKs in a container's files are new enough for the endpoint and its secret. Pure."""

import re
from typing import NamedTuple

from sidecar.doctor.finding import Check, Finding, failed, ok, skipped, warning


class Sdk(NamedTuple):
    """
    One SDK, and the oldest version that can use the endpoint with a secret from a file.

    The versions are from the EKS User Guide ("Use IRSA / Pod Identity with the AWS SDK"). If the guide names only a
    date, the version is the module's version on that day.
    """

    name: str
    minimum: tuple[int, ...]

    @property
    def minimum_text(self) -> str:
        return ".".join(map(str, self.minimum))


BOTOCORE = Sdk("botocore (Python)", (1, 34, 41))
CLI_V2 = Sdk("AWS CLI 2", (2, 15, 0))
JAVASCRIPT_2 = Sdk("JavaScript SDK 2", (2, 1550, 0))
JAVASCRIPT_3 = Sdk("JavaScript SDK 3", (3, 458, 0))
JAVA_1 = Sdk("Java SDK 1", (1, 12, 746))
JAVA_2 = Sdk("Java SDK 2", (2, 21, 30))
GO_1 = Sdk("Go SDK 1", (1, 47, 11))
GO_2 = Sdk("Go SDK 2 (module config)", (1, 25, 0))
RUBY = Sdk("Ruby SDK", (3, 188, 0))
PHP = Sdk("PHP SDK", (3, 287, 1))
DOTNET = Sdk(".NET SDK (AWSSDK.Core)", (3, 7, 734, 0))
KOTLIN = Sdk("Kotlin SDK", (1, 0, 1))
RUST = Sdk("Rust SDK (aws-config)", (1, 1, 8))


class FoundSdk(NamedTuple):
    """An SDK, its version, and the file or directory that shows it."""

    sdk: Sdk
    version: str
    path: str

    @property
    def is_new_enough(self) -> bool:
        return _numbers(self.version) >= self.sdk.minimum


class SdkFacts(NamedTuple):
    """The SDKs found below `root`. `is_complete` is false if a limit ended the search early."""

    found: tuple[FoundSdk, ...]
    root: str
    is_complete: bool = True
    is_directory: bool = True


def _new_enough(facts: SdkFacts) -> Finding:
    old = [found for found in facts.found if not found.is_new_enough]
    if old:
        first = old[0]
        others = "".join(f"; {found.sdk.name} {found.version} in {found.path}" for found in old[1:4])
        return failed(
            f"{first.sdk.name} {first.version} in {first.path} is too old to read the endpoint's secret from "
            f"a file{others}",
            f"Update it to {first.sdk.minimum_text} or newer",
        )
    if not facts.is_directory:
        return warning(f"{facts.root} is not a directory", "Name a directory with --files, for example /")
    if not facts.found:
        return skipped(
            f"no AWS SDK was recognized below {facts.root}{'' if facts.is_complete else ', as far as it was searched'}"
        )
    distinct = sorted({f"{found.sdk.name} {found.version}" for found in facts.found})
    return ok(f"{', '.join(distinct)}{'' if facts.is_complete else ' (not all files were searched)'}")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"[0-9]+", version.partition("+")[0].partition("-")[0]))


CHECKS: tuple[Check[SdkFacts], ...] = (Check("versions", "is every AWS SDK here new enough", _new_enough),)
