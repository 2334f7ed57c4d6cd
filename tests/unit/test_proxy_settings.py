"""Test HTTPS_PROXY and NO_PROXY as people write them."""

from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from sidecar.errors import ConfigurationError
from sidecar.outbound import proxy_for
from sidecar.proxy_settings import checked_proxy, no_proxy_warning
from sidecar.sts.client import StsClient
from sidecar.sts.settings import read_sts_settings
from sidecar.sts.warnings import warnings_about
from tests.support.exchanges import Resolver, failure
from tests.support.processes import our_program, pod_environment, run_daemon, run_to_its_end, scripted_sts

pytestmark = pytest.mark.usefixtures("no_proxies")

STS = "sts.eu-west-1.amazonaws.com"

UNENCODED = ["p@ss#w%rd", "p#w", "p/w", "p?w", "p@w", "%zz", "50%", "%2", "p w", "p\\w", "[p]", 'p"w', "p\tw", "p%%23"]


@pytest.mark.parametrize("password", UNENCODED)
@pytest.mark.parametrize("scheme", ["http://", "https://", ""])
def test_unencoded_proxy_password_is_reported(monkeypatch: pytest.MonkeyPatch, password: str, scheme: str) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"{scheme}user:{password}@127.0.0.1:1")
    with pytest.raises(ConfigurationError, match=r"^HTTPS_PROXY's user and password must be percent-encoded") as caught:
        proxy_for(f"https://{STS}/")
    assert f":{password}" not in str(caught.value)
    assert "127.0.0.1" not in str(caught.value)


def test_unencoded_proxy_user_is_reported() -> None:
    with pytest.raises(ConfigurationError, match="HTTP_PROXY's user and password"):
        checked_proxy("HTTP_PROXY", "http://DOMAIN\\me:secret@proxy:3128")


@pytest.mark.parametrize(
    "value",
    [
        "http://proxy:3128",
        "http://me@proxy",
        "http://me:a:b@proxy:1",
        "http://me:b\u00fccher@proxy:1",
        "http://[::1]:1",
    ],
)
def test_unambiguous_proxy_is_accepted(value: str) -> None:
    assert checked_proxy("HTTPS_PROXY", value) == value


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_any_encoded_password_is_accepted(password: str) -> None:
    value = f"http://me:{quote(password, safe='')}@proxy:3128"
    assert checked_proxy("HTTPS_PROXY", value) == value


@given(st.text())
def test_any_proxy_is_accepted_or_rejected_with_its_setting(value: str) -> None:
    try:
        found = checked_proxy("HTTPS_PROXY", value)
    except ConfigurationError as error:
        found = str(error)
    assert found.endswith(value.strip()) or found.startswith("HTTPS_PROXY")


NOT_UNDERSTOOD = {
    "*.amazonaws.com": "remove the `*`",
    f"{STS}:443": "remove the port",
    "[fd00::7]:443": "remove the port",
    "10.0.0.0/8": "address range",
    "fe80::/10": "address range",
    "a.example b.example": "by commas",
    "a.example;b.example": "by commas",
    "a.example|b.example": "by commas",
    '"a.example"': "quotes",
    "'a.example'": "quotes",
    "\u201ca.example\u201d": "quotes",
    f"https://{STS}": "without a scheme",
    "a.example/path": "without a path",
    "sts.*.amazonaws.com": "whole value",
    "*amazonaws.com": "whole value",
    "fd00:ec2::254": "in brackets",
    "fe80::1%eth0": "in brackets",
    "a.example.": "dot at the end",
    "a..example": "not a host name",
    "<local>": "not a host name",
    "b\u00fccher.example": "not a host name",
}


@pytest.mark.parametrize(("entry", "fix"), NOT_UNDERSTOOD.items())
def test_misread_entry_of_no_proxy_is_reported(entry: str, fix: str) -> None:
    warning = no_proxy_warning(f".svc, {entry},localhost", STS)
    assert warning is not None
    assert repr(entry) in warning.problem
    assert fix in warning.problem
    assert ".svc" not in warning.problem.replace(entry, "")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "*",
        ".svc",
        "amazonaws.com",
        "a, .b ,C",
        "a,",
        ",",
        "169.254.169.254",
        "[fd00::7]",
        "..a",
        "my_host",
        f"{STS}",
    ],
)
def test_valid_no_proxy_gets_no_warning(text: str) -> None:
    assert no_proxy_warning(text, STS) is None


def test_no_proxy_with_the_urls_port_gets_no_warning() -> None:
    assert no_proxy_warning("sts.example:8443", "sts.example:8443") is None
    assert no_proxy_warning("sts.example:8443", "sts.example") is not None


def test_long_no_proxy_gives_a_short_warning_without_passwords() -> None:
    warning = no_proxy_warning(",".join(["https://me:hush@a", *["*" + "a" * 300] * 50]), STS)
    assert warning is not None
    assert len(str(warning)) < 1000
    assert "hush" not in str(warning)
    assert "46 more" in warning.problem


@given(st.text(st.sampled_from("a.*:/1 [];%\"'-_,fd")), st.sampled_from([STS, "sts.example:8443", "[fd00::7]"]))
def test_entry_without_a_warning_bypasses_the_proxy(text: str, netloc: str) -> None:
    """Append the host to a list without a warning, and check that Python connects to the host directly."""
    if no_proxy_warning(text, netloc) is None and text != "*":
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("HTTPS_PROXY", "http://proxy:1")
            patch.setenv("NO_PROXY", f"{text},{netloc}")
            assert proxy_for(f"https://{netloc}/") is None


# The checks at the start and in doctor


def test_no_proxy_is_checked_only_if_a_proxy_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = read_sts_settings({"AWS_REGION": "eu-west-1"})
    monkeypatch.setenv("NO_PROXY", "*.amazonaws.com")
    assert warnings_about([], settings) == []
    monkeypatch.setenv("HTTP_PROXY", "http://proxy:3128")
    assert warnings_about([], settings) == []
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:3128")
    (warning,) = warnings_about([], settings)
    assert "'*.amazonaws.com'" in warning.problem


async def test_run_warns_about_no_proxy_at_the_start(tmp_path: Path) -> None:
    proxy = {"HTTP_PROXY": "http://127.0.0.1:1", "NO_PROXY": "10.0.0.0/8"}
    async with run_daemon(pod_environment(tmp_path / "token", "http://sts.invalid/", **proxy)) as running:
        entry = await running.logged("suspicious_setting_found", level="warning")
        if "NO_PROXY" not in entry["reason"]:
            entry = await running.logged("suspicious_setting_found", times=2)
    assert "'10.0.0.0/8'" in entry["reason"]


UNUSABLE = [
    "socks5://127.0.0.1:1", "socks5h://127.0.0.1:1", "ftp://proxy", "http://", "http:///", "https://", "://proxy", "http://:1",
    "http://me:hush@:1", "http://proxy:999999", "http://proxy:-1", "http://proxy:0", "http://proxy:port", "http://[::1",
    "http:proxy", "http://a b", "http://proxy\x01", "http://proxy\udcff", '"http://proxy:1"',
]  # fmt: skip


@pytest.mark.parametrize("value", UNUSABLE)
def test_unusable_proxy_is_reported_at_the_start(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("HTTPS_PROXY", value)
    with pytest.raises(ConfigurationError, match=r"^HTTPS_PROXY is not a proxy that can be used") as caught:
        StsClient(f"https://{STS}/")
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("value", ["socks5://127.0.0.1:1", "http://", "ftp://proxy"])
def test_run_ends_with_an_unusable_proxy(tmp_path: Path, value: str) -> None:
    status, errors = run_to_its_end(pod_environment(tmp_path / "token", f"https://{STS}/", HTTPS_PROXY=value))
    assert status == 2
    assert "HTTPS_PROXY is not a proxy that can be used" in errors


async def test_unresolvable_proxy_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    trio.socket.set_custom_hostname_resolver(Resolver())
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    error = await failure(f"https://{STS}/")
    assert "the proxy's name does not resolve" in error.message
    assert "HTTPS_PROXY" in error.message
    assert "AWS_REGION" not in error.message


def test_error_of_run_names_the_setting_of_the_proxy(tmp_path: Path) -> None:
    proxy = {"HTTPS_PROXY": "http://user:p@ss#w%rd@127.0.0.1:1"}
    status, errors = run_to_its_end(pod_environment(tmp_path / "token", f"https://{STS}/", **proxy))
    assert status == 2
    assert "HTTPS_PROXY's user and password must be percent-encoded" in errors
    assert "p@ss" not in errors
    assert "w%rd" not in errors


@pytest.mark.parametrize("command", [["credentials", "--no-daemon"], ["exec", "true"], ["doctor", "--no-imds"]])
async def test_error_of_a_command_names_the_setting_of_the_proxy(tmp_path: Path, command: list[str]) -> None:
    proxy = {"HTTPS_PROXY": "http://user:p@ss#w%rd@127.0.0.1:1"}
    done = await trio.run_process(
        [*our_program(), *command],
        env=pod_environment(tmp_path / "token", f"https://{STS}/", **proxy),
        capture_stdout=True,
        capture_stderr=True,
        check=False,
    )
    shown = " ".join((done.stdout + done.stderr).decode().split())
    assert done.returncode != 0
    assert "HTTPS_PROXY's user and password must be percent-encoded" in shown
    assert "w%rd" not in shown


async def test_user_agent_of_run_contains_the_app_id(tmp_path: Path) -> None:
    async with scripted_sts() as sts:
        environment = pod_environment(tmp_path / "token", sts.url, AWS_SDK_UA_APP_ID="shop cart")
        async with run_daemon(environment) as running:
            await running.logged("credentials_refreshed")
            entry = await running.logged("suspicious_setting_found")
    assert (sts.requests[0].header("user-agent") or "").endswith(" app/shop-cart")
    assert "AWS_SDK_UA_APP_ID is 'shop cart'" in entry["reason"]


@pytest.mark.parametrize("command", [["credentials", "--no-daemon"], ["exec", "true"], ["doctor", "--no-imds"]])
async def test_user_agent_of_commands_contains_the_app_id(tmp_path: Path, command: list[str]) -> None:
    async with scripted_sts() as sts:
        environment = pod_environment(tmp_path / "token", sts.url, AWS_SDK_UA_APP_ID="cart")
        await trio.run_process(
            [*our_program(), *command], env=environment, capture_stdout=True, capture_stderr=True, check=False
        )
    posts = [request for request in sts.requests if request.line.startswith("POST")]
    assert posts
    assert all((request.header("user-agent") or "").endswith(" app/cart") for request in posts)


def test_proxy_url_is_split_as_in_httpx() -> None:
    assert urlsplit(checked_proxy("HTTPS_PROXY", "me:a%40b@proxy:3128")).hostname == "proxy"
