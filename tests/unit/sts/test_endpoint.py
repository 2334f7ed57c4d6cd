"""Compare the URL of STS with botocore's URL, for all regions, partitions and flags."""

import itertools
from collections.abc import Iterator
from urllib.parse import urlsplit

import botocore.session
import pytest
from botocore.awsrequest import prepare_request_dict
from botocore.config import Config
from botocore.exceptions import BotoCoreError
from botocore.utils import is_valid_uri
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sidecar.addresses import is_loopback_host
from sidecar.errors import ConfigurationError
from sidecar.sts.endpoint import (
    PARTITIONS,
    is_plaintext_beyond_loopback,
    parse_endpoint_url,
    partition_of,
    partition_warning,
    signing_region,
    sts_url,
)

steady = settings(deadline=None, derandomize=True)
"""Hypothesis settings with the same inputs on every run, and without a deadline."""

REGIONS_WITHOUT_DUAL_STACK = ("aws-iso-e-global", "aws-iso-f-global")
"""The pseudo regions without dual-stack endpoints, for which botocore accepts the dual-stack flag by mistake."""

FLAGS = tuple(itertools.product((False, True), repeat=2))


class Botocore:
    """The endpoints that botocore's client uses, with all rules that botocore applies."""

    def __init__(self) -> None:
        self._session = botocore.session.Session()
        self._session.set_credentials("access-key-id", "secret-access-key")

    def endpoint(self, region: str, *, fips: bool, dualstack: bool) -> tuple[str, str] | None:
        """Return botocore's URL and signing region, or None if botocore rejects the region."""
        config = Config(use_fips_endpoint=fips, use_dualstack_endpoint=dualstack)
        try:
            client = self._session.create_client("sts", region_name=region, config=config)
            operation = client.meta.service_model.operation_model("AssumeRoleWithWebIdentity")
            resolver = vars(client)["_ruleset_resolver"]
            url = str(resolver.construct_endpoint(operation, {}, {}).url)
            return url, str(vars(client)["_request_signer"].region_name)
        except (BotoCoreError, ValueError):
            return None

    def regions(self) -> Iterator[str]:
        """Return every region, pseudo region and unusual endpoint name in botocore's two files."""
        for partition in self._session.get_data("partitions")["partitions"]:
            yield from partition["regions"]
        for partition in self._session.get_data("endpoints")["partitions"]:
            yield from partition["regions"]
            yield from partition["services"]["sts"]["endpoints"]

    def partitions(self) -> dict[str, list[str]]:
        partitions = self._session.get_data("partitions")["partitions"]
        return {partition["id"]: list(partition["regions"]) for partition in partitions}


@pytest.fixture(scope="module")
def peer() -> Iterator[Botocore]:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_STS", "AWS_STS_REGIONAL_ENDPOINTS"):
            patch.delenv(name, raising=False)
        patch.setenv("AWS_CONFIG_FILE", "no-such-file")
        yield Botocore()


def ours(region: str, *, fips: bool, dualstack: bool) -> tuple[str, str] | None:
    try:
        return sts_url(region, fips=fips, dualstack=dualstack), signing_region(region)
    except ConfigurationError:
        return None


@pytest.mark.parametrize(("fips", "dualstack"), FLAGS)
def test_region_has_botocores_url_and_signing_region(peer: Botocore, *, fips: bool, dualstack: bool) -> None:
    regions = set(peer.regions())
    assert len(regions) > 50
    for region in sorted(regions):
        expected = peer.endpoint(region, fips=fips, dualstack=dualstack)
        if dualstack and region in REGIONS_WITHOUT_DUAL_STACK:
            expected = None
        assert ours(region, fips=fips, dualstack=dualstack) == expected, region


labels = st.from_regex(r"[A-Za-z0-9-]{1,66}", fullmatch=True)
new_regions = st.builds(
    "{}-{}-{}".format,
    st.sampled_from(
        [
            "us",
            "eu",
            "ap",
            "mx",
            "zz",
            "cn",
            "eusc-de",
            "eusc-fr",
            "us-iso",
            "us-isob",
            "us-isoe",
            "eu-isoe",
            "us-isof",
            "us-gov",
        ]
    ),
    st.from_regex(r"[a-z]{1,9}", fullmatch=True),
    st.integers(0, 99),
)


@steady
@given(region=new_regions | labels | st.text(max_size=70), flags=st.sampled_from(FLAGS))
@example("", (False, False))
@example("us east 1", (False, False))
@example("us-east-1\n", (False, False))
@example("us-east-1.attacker.example/", (False, False))
@example("attacker.example", (False, False))
@example("user@attacker.example", (True, True))
@example("US-EAST-1", (False, True))
@example("٣-٣", (False, False))
@example("123", (False, False))
@example("fips-eu-west-1", (False, False))
@example("us-gov-west-1-fips", (False, True))
@example("fips--fips", (False, False))
@example("fips--x", (False, False))
@example("fips-123", (False, False))
def test_unknown_region_is_handled_as_in_botocore(peer: Botocore, region: str, flags: tuple[bool, bool]) -> None:
    fips, dualstack = flags
    assert ours(region, fips=fips, dualstack=dualstack) == peer.endpoint(region, fips=fips, dualstack=dualstack)


@steady
@given(st.text(max_size=70), st.sampled_from(FLAGS))
def test_host_is_always_in_a_domain_of_aws(region: str, flags: tuple[bool, bool]) -> None:
    found = ours(region, fips=flags[0], dualstack=flags[1])
    if found is not None:
        suffixes = {suffix for row in PARTITIONS for suffix in (row.suffix, row.dual_stack_suffix) if suffix}
        assert any(urlsplit(found[0]).netloc.endswith(f".{suffix}") for suffix in suffixes)


def test_missing_region_error_names_the_setting_and_the_fix() -> None:
    with pytest.raises(ConfigurationError, match="AWS_REGION is not set") as caught:
        sts_url("")
    assert caught.value.setting == "AWS_REGION"
    assert "eu-west-1" in caught.value.fix


def test_invalid_region_error_shows_the_value() -> None:
    with pytest.raises(ConfigurationError, match=r"AWS_REGION is 'us east 1', which is not a valid region"):
        sts_url("us east 1")


def test_missing_dual_stack_error_names_the_partition() -> None:
    with pytest.raises(ConfigurationError, match=r"AWS_USE_DUALSTACK_ENDPOINT is true, .* aws-iso-f") as caught:
        sts_url("us-isof-south-1", dualstack=True)
    assert "Unset it" in caught.value.fix


def test_partition_of_each_region_matches_botocore(peer: Botocore) -> None:
    for partition, regions in peer.partitions().items():
        assert {partition_of(region) for region in regions} == {partition}


def test_unknown_region_belongs_to_partition_aws() -> None:
    assert partition_of("zz-new-1") == "aws"


def test_role_of_another_partition_causes_a_warning() -> None:
    warning = partition_warning("arn:aws-cn:iam::111122223333:role/app", "us-east-1")
    assert warning is not None
    assert "'arn:aws-cn:iam::111122223333:role/app'" in warning.problem
    assert "AWS_REGION is 'us-east-1' in partition aws" in warning.problem


@pytest.mark.parametrize(
    ("role_arn", "region"),
    [
        ("arn:aws:iam::111122223333:role/app", "eu-west-1"),
        ("arn:aws-cn:iam::111122223333:role/app", "cn-north-1"),
        ("arn:aws-us-gov:iam::111122223333:role/app", "us-gov-west-1"),
        ("arn:aws-new:iam::111122223333:role/app", "zz-new-1"),
        ("no ARN at all", "eu-west-1"),
        ("arn::iam::111122223333:role/app", "eu-west-1"),
    ],
)
def test_matching_or_unclear_role_causes_no_partition_warning(role_arn: str, region: str) -> None:
    assert partition_warning(role_arn, region) is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("https://sts.eu-west-1.amazonaws.com", "https://sts.eu-west-1.amazonaws.com/"),
        ("HTTP://localhost:4566", "http://localhost:4566/"),
        ("http://127.0.0.1:4566/", "http://127.0.0.1:4566/"),
        ("http://[::1]:4566/sts", "http://[::1]:4566/sts"),
        ("https://vpce-1a2b.sts.eu-west-1.vpce.amazonaws.com.", "https://vpce-1a2b.sts.eu-west-1.vpce.amazonaws.com./"),
    ],
)
def test_endpoint_url_without_a_path_gets_a_slash(value: str, expected: str) -> None:
    assert parse_endpoint_url("AWS_ENDPOINT_URL_STS", value) == expected


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("", "neither http:// nor https://"),
        ("sts.eu-west-1.amazonaws.com", "neither http:// nor https://"),
        ("localhost:4566", "neither http:// nor https://"),
        ("file:///etc/passwd", "neither http:// nor https://"),
        ("https://", "names no host"),
        ("https:///path", "names no host"),
        ("https://-sts-.example", "names no host"),
        ("https://two..dots", "names no host"),
        ("https://" + ".".join(["a" * 60] * 5), "names no host"),
        ("https://host:port", "cannot be read"),
        ("https://host:65536", "cannot be read"),
        ("https://[::1", "cannot be read"),
        ("https://host/?a=b", "query or a fragment"),
        ("https://host/?", "query or a fragment"),
        ("https://host/#a", "query or a fragment"),
        (" https://host", "characters that no URL has"),
        ("https://ho\nst", "characters that no URL has"),
        ("https://hóst", "characters that no URL has"),
    ],
)
def test_invalid_endpoint_url_is_rejected_with_its_setting(value: str, reason: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_endpoint_url("AWS_ENDPOINT_URL", value)
    assert str(caught.value).startswith(f"AWS_ENDPOINT_URL is {value!r}, ")
    assert reason in str(caught.value)


def test_rejected_endpoint_url_hides_the_password() -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_endpoint_url("AWS_ENDPOINT_URL", "https://somebody:pass@word@host/")
    assert "user name or password" in caught.value.problem
    assert "word" not in str(caught.value).replace("password", "")
    assert "somebody" not in str(caught.value)


urls = st.builds(
    "{}{}{}{}".format,
    st.sampled_from(["http://", "https://", "HTTPS://", "ftp://", "//", ""]),
    st.from_regex(r"[a-z0-9.:\[\]%_@-]{0,20}", fullmatch=True) | st.ip_addresses(v=4).map(str) | st.text(max_size=8),
    st.sampled_from(["", ":80", ":99999", ":x"]),
    st.sampled_from(["", "/", "/a/b", "?q", "#f"]) | st.text(max_size=5),
)


@steady
@given(urls)
def test_client_calls_the_same_endpoint_url_as_botocore(value: str) -> None:
    try:
        url = parse_endpoint_url("AWS_ENDPOINT_URL", value)
    except ConfigurationError:
        return
    assert is_valid_uri(value)
    request = {"url_path": "/", "query_string": "", "headers": {}}
    prepare_request_dict(request, value)
    assert url == request["url"]
    assert parse_endpoint_url("AWS_ENDPOINT_URL", url) == url


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.9.10", "::1"])
def test_plaintext_to_loopback_is_accepted(host: str) -> None:
    assert is_loopback_host(host)
    bracketed = f"[{host}]" if ":" in host else host
    assert not is_plaintext_beyond_loopback(f"http://{bracketed}:4566/")


@pytest.mark.parametrize("host", ["sts.example", "10.0.0.1", "localhost.example", "[fe80::1]", "0.0.0.0"])
def test_plaintext_beyond_loopback_is_detected(host: str) -> None:
    assert is_plaintext_beyond_loopback(f"http://{host}/")
    assert not is_plaintext_beyond_loopback(f"https://{host}/")
