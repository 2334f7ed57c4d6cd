"""
Find the URL of STS for a region and its flags. Pure.

Rule: the URL is the one that botocore would call, for every region of every partition, including unknown regions. AWS
publishes a pattern for the region names of each partition. The table therefore needs no list of regions, which would
become outdated. A region becomes part of a host name, so only a valid host label is accepted.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import urlsplit, urlunsplit

from sidecar.addresses import is_loopback_host, packed
from sidecar.errors import ConfigurationError, Explanation


class Partition(NamedTuple):
    """
    Regions that share IAM and DNS suffixes. `region` is the pattern of their names.

    `dual_stack_suffix` is None if AWS has no dual-stack endpoint there.
    """

    name: str
    region: str
    suffix: str
    dual_stack_suffix: str | None
    fips_prefix: str = "sts-fips"

    def has(self, region: str) -> bool:
        """Return whether the region, or a pseudo region such as `aws-cn-global`, is in the partition."""
        return re.fullmatch(self.region, region) is not None or region == f"{self.name}-global"


def _regions(first: str) -> str:
    return rf"(?:{first})-\w+-\d+"


AWS = Partition("aws", _regions("us|eu|ap|sa|ca|me|af|il|mx"), "amazonaws.com", "api.aws")

PARTITIONS = (
    AWS,
    Partition("aws-cn", _regions("cn"), "amazonaws.com.cn", "api.amazonwebservices.com.cn"),
    Partition("aws-eusc", _regions("eusc-de"), "amazonaws.eu", "api.amazonwebservices.eu"),
    Partition("aws-iso", _regions("us-iso"), "c2s.ic.gov", "api.aws.ic.gov"),
    Partition("aws-iso-b", _regions("us-isob"), "sc2s.sgov.gov", "api.aws.scloud"),
    Partition("aws-iso-e", _regions("eu-isoe"), "cloud.adc-e.uk", None),
    Partition("aws-iso-f", _regions("us-isof"), "csp.hci.ic.gov", None),
    # GovCloud's plain endpoints are its FIPS endpoints.
    Partition("aws-us-gov", _regions("us-gov"), "amazonaws.com", "api.aws", fips_prefix="sts"),
)
"""AWS's partitions (partitions.json of the SDKs and STS's endpoint rules; tests compare the table with botocore's)."""

GLOBAL_REGION = "aws-global"
_SIGNED_AS_GLOBAL = "us-east-1"

FALLBACK_REGIONS = "IRSA_SIDECAR_STS_FALLBACK_REGIONS"
"""Name of the setting in messages. A flag of `run` sets the same value."""

_LABEL = r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)"
_REGION = rf"(?![0-9]+$){_LABEL}"
_HOST = rf"{_LABEL}(?:\.{_LABEL})*\.?"
_LONGEST_HOST = 255
_AT = "@|%40|\uff20"
"""Pattern for `@`, including its percent-encoded and full-width forms, which occur in passwords."""


def sts_url(region: str, *, fips: bool = False, dualstack: bool = False) -> str:
    """
    Return the URL of STS in `region`, without a path.

    `fips-REGION` and `REGION-fips` mean REGION with `fips`, as in the SDKs.

    Raises ConfigurationError if the region is invalid, or if AWS has no dual-stack endpoint there.
    """
    real_region = _real_region(region)
    fips = fips or real_region != region
    partition = _partition(real_region) or AWS
    if dualstack:
        prefix, suffix = ("sts-fips" if fips else "sts"), _dual_stack_suffix(partition)
    elif fips:
        prefix, suffix = partition.fips_prefix, partition.suffix
    elif real_region == GLOBAL_REGION:
        return f"https://sts.{partition.suffix}"
    else:
        prefix, suffix = "sts", partition.suffix
    return f"https://{prefix}.{real_region}.{suffix}"


def signing_region(region: str) -> str:
    """
    Return the signing region for the STS of `region`: us-east-1 for the global STS, else the region itself.

    Raises ConfigurationError if the region is invalid.
    """
    real_region = _real_region(region)
    return _SIGNED_AS_GLOBAL if real_region == GLOBAL_REGION else real_region


def fallback_urls(first: str, regions: Sequence[str], *, fips: bool = False, dualstack: bool = False) -> list[str]:
    """
    Return the URLs of STS in `regions`, the fallback regions of `first`, with the same flags.

    Raises ConfigurationError if a region is outside the partition of `first`, or if a URL occurs twice. Roles and their
    identity providers exist in one partition only.
    """
    urls = [sts_url(first, fips=fips, dualstack=dualstack)]
    partition = _partition(_real_region(first)) or AWS
    for region in regions:
        name = _without_fips(region)
        if not (re.fullmatch(_LABEL, name) and partition.has(name)):
            raise ConfigurationError(
                f"{FALLBACK_REGIONS} contains {region!r}, which is not a region of partition {partition.name}, the "
                f"partition of AWS_REGION {first!r}. Roles and tokens are valid in one partition only",
                fix=f"Use regions of {partition.name}, or correct AWS_REGION",
                setting=FALLBACK_REGIONS,
            )
        url = sts_url(region, fips=fips, dualstack=dualstack)
        if url in urls:
            raise ConfigurationError(
                f"{FALLBACK_REGIONS} contains {region!r}, but its STS {url} is already the STS of "
                f"{[first, *regions][urls.index(url)]!r}",
                fix="Remove it, or use another region",
                setting=FALLBACK_REGIONS,
            )
        urls.append(url)
    return urls[1:]


def partition_of(region: str) -> str:
    """Return the name of the region's partition; `aws` if no pattern matches, as in the SDKs."""
    return (_partition(region) or AWS).name


def partition_warning(role_arn: str, region: str) -> Explanation | None:
    """
    Return a warning if the role is in another partition than `region`, else None.

    STS knows only roles of its own partition.
    """
    partition = _partition(region)
    of_role = role_arn.split(":")[1] if role_arn.startswith("arn:") else ""
    if partition is None or not of_role or of_role == partition.name:
        return None
    return Explanation(
        f"The role {role_arn!r} is in partition {of_role}, but AWS_REGION is {region!r} in partition {partition.name}. "
        "STS does not know roles of another partition",
        fix=f"Set AWS_REGION to a region of {of_role}, or correct the ARN",
    )


def parse_endpoint_url(setting: str, value: str) -> str:
    """
    Return the URL of `setting` (AWS_ENDPOINT_URL_STS or AWS_ENDPOINT_URL), with `/` for an empty path.

    Plain http is accepted for every host, as in botocore; see `is_plaintext_beyond_loopback`.

    Raises ConfigurationError if the value is not an http or https URL, or if it has a user name, query or fragment.
    """
    problem = _endpoint_url_problem(value)
    if problem is not None:
        raise ConfigurationError(
            f"{setting} is {_without_user_info(value)!r}, {problem}",
            fix="Set it to a URL such as https://sts.eu-west-1.amazonaws.com, or unset it to use the STS of AWS_REGION",
            setting=setting,
        )
    parts = urlsplit(value)
    return urlunsplit((parts.scheme, parts.netloc, parts.path or "/", "", ""))


def _without_user_info(value: str) -> str:
    """Return the URL after the last `@`, or `***` if a password may also be in a query or fragment."""
    *before, shown = re.split(_AT, value)
    return "***" if before and ("?" in value or "#" in value) else shown


def is_plaintext_beyond_loopback(url: str) -> bool:
    """Return whether the token and the credentials would cross a network unencrypted."""
    parts = urlsplit(url)
    return parts.scheme == "http" and not is_loopback_host(parts.hostname or "")


def _partition(region: str) -> Partition | None:
    return next((partition for partition in PARTITIONS if partition.has(region)), None)


def _dual_stack_suffix(partition: Partition) -> str:
    if partition.dual_stack_suffix is None:
        raise ConfigurationError(
            f"AWS_USE_DUALSTACK_ENDPOINT is true, but STS has no dual-stack endpoint in partition {partition.name}",
            fix="Unset it, or set AWS_ENDPOINT_URL_STS",
            setting="AWS_USE_DUALSTACK_ENDPOINT",
        )
    return partition.dual_stack_suffix


def _real_region(region: str) -> str:
    """
    Return the region without `fips-` or `-fips`.

    Raises ConfigurationError if the region is invalid.
    """
    if not region:
        fix = "Set it to the region of the STS to call, such as eu-west-1"
        raise ConfigurationError("AWS_REGION is not set", fix=fix, setting="AWS_REGION")
    real_region = _without_fips(region)
    if re.fullmatch(_REGION, region) is None or re.fullmatch(_LABEL, real_region) is None:
        raise ConfigurationError(
            f"AWS_REGION is {region!r}, which is not a valid region",
            fix="Set it to a region such as eu-west-1. Use only letters, digits and hyphens",
            setting="AWS_REGION",
        )
    return real_region


def _without_fips(region: str) -> str:
    return region.replace("fips-", "").replace("-fips", "")


def _endpoint_url_problem(value: str) -> str | None:
    """Return the problem with an endpoint URL as a relative clause; None if the URL is valid."""
    if not value.isascii() or not value.isprintable() or " " in value:
        return "which contains characters that no URL has"
    try:
        parts = urlsplit(value)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "whose host or port cannot be read"
    problems = {
        "which is neither http:// nor https://": parts.scheme not in ("http", "https"),
        "which has a user name or password, and they would not be used": "@" in parts.netloc,
        "which has a query or a fragment, and it would be lost": "?" in value or "#" in value,
        "which names no host": not host or not _is_host(host),
    }
    return next((problem for problem, is_present in problems.items() if is_present), None)


def _is_host(host: str) -> bool:
    address = host.partition("%")[0] if ":" in host else host  # an IPv6 address may have a zone
    return packed(address) is not None or (len(host) <= _LONGEST_HOST and re.fullmatch(_HOST, host) is not None)
