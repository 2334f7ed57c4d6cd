"""
Define the cases that every client must pass with the endpoint: one function for each case, with a new stage.

A case that fails raises Unmet with the actual result. Each case is a column of the table in docs/sdks.md. The page
shows the first line of the function's docstring as the description of the case.
"""

import signal
import time
from collections.abc import Awaitable, Callable

import trio

from sidecar.local.session_size import MAX_TOKEN_BYTES
from sidecar.oidc.sts_rejection import StsRejection
from tests.sdk.client_process import must
from tests.sdk.stage import BOTH, FILE, VARIABLE, Stage
from tests.sdk.tap import Tap

SHORT_SECONDS = 8
"""The lifetime of sessions in cases that wait until a session expires. The daemon renews at half of this lifetime."""

DENIAL = "AccessDenied: Not authorized to perform sts:AssumeRoleWithWebIdentity"


async def first_credentials(stage: Stage) -> None:
    """Get credentials with the URL alone if no secret is required. The daemon calls STS once."""
    async with stage.daemon(asks_for_secret=False) as daemon:
        await daemon.logged("credentials_refreshed")
        async with stage.client_process(stage.variables(daemon.url)) as client:
            await client.gets()
    assert len(stage.sts.tokens) == 1


async def signed_call(stage: Stage) -> None:
    """Sign a call that STS accepts. STS checks the signature, the session token and the expiration."""
    async with stage.daemon() as daemon:
        await daemon.logged("credentials_refreshed")
        async with stage.client_process(stage.variables(daemon.url, secret=BOTH)) as client:
            must(await client.signs() == await client.gets(), "other credentials")


async def secret_by_variable(stage: Stage) -> None:
    """Send the secret from `AWS_CONTAINER_AUTHORIZATION_TOKEN`."""
    async with stage.daemon() as daemon:
        await daemon.logged("credentials_refreshed")
        async with stage.client_process(stage.variables(daemon.url, secret=[VARIABLE])) as client:
            await client.gets()


async def secret_by_file(stage: Stage) -> None:
    """Send the secret from the file in `AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE`."""
    async with stage.daemon() as daemon:
        await daemon.logged("credentials_refreshed")
        async with stage.client_process(stage.variables(daemon.url, secret=[FILE])) as client:
            await client.gets()


async def secret_rotated(stage: Stage) -> None:
    """Send the new secret from the file with the next request, although the variable still has the old secret."""
    stage.sts.life_seconds = SHORT_SECONDS
    async with stage.daemon() as daemon:
        await daemon.logged("credentials_refreshed")
        async with stage.client_process(stage.variables(daemon.url, secret=BOTH)) as client:
            first = await client.gets()
            stage.rotate_secret()
            await _outlive(stage, first)
            must(await client.gets() != first, "the previous credentials")


async def sidecar_restarted(stage: Stage) -> None:
    """Read the new secret from the file after the sidecar has restarted with a new secret."""
    stage.sts.life_seconds = SHORT_SECONDS
    async with stage.daemon() as daemon:
        await daemon.logged("credentials_refreshed")
        async with stage.client_process(stage.variables(daemon.url, secret=[FILE])) as client:
            first, secret = await client.gets(), stage.secret_file.read_text()
            await daemon.stop(signal.SIGTERM)
            async with stage.daemon_again(daemon) as restarted:
                await restarted.logged("credentials_refreshed")
                assert stage.secret_file.read_text() != secret
                await _outlive(stage, first)
                must(await client.gets() != first, "the previous credentials")


async def cold_start(stage: Stage) -> None:
    """Request credentials before the sidecar has credentials, and get them in the response to that request."""
    await _start_with_request(1, stage)


async def slow_start(stage: Stage) -> None:
    """Get a 503 because STS is slow at the start, retry, and get credentials."""
    await _start_with_request(2, stage)


async def sts_down(stage: Stage) -> None:
    """Fail with an error while STS is down. Get credentials in the same process once STS is back."""
    stage.sts.rejection = StsRejection("ServiceUnavailable", "Service is unavailable", status=503)
    async with stage.daemon() as daemon, stage.client_process(stage.variables(daemon.url, secret=BOTH)) as client:
        await daemon.logged("refresh_failed")
        stage.sts.may_respond = trio.Event()
        await client.error()
        stage.sts.rejection = None
        stage.sts.may_respond.set()
        await daemon.logged("credentials_refreshed")
        await client.gets()


async def across_expiry(stage: Stage) -> None:
    """Use new credentials once the old credentials expire, after a rotation of the service account token."""
    stage.sts.life_seconds = SHORT_SECONDS
    async with stage.daemon() as daemon:
        await daemon.logged("credentials_refreshed")
        token = stage.rotate_token()
        async with stage.client_process(stage.variables(daemon.url, secret=BOTH)) as client:
            first = await client.gets()
            if stage.client.has_sts:
                await client.signs()
            await _outlive(stage, first)
            must(await client.gets() != first, "the previous credentials")
            if stage.client.has_sts:
                must(await client.signs() != first, "a signature with the previous credentials")
    assert stage.sts.tokens[-1] == token


async def refusal_shown(stage: Stage) -> None:
    """Show the AWS code and text in the error if the role's trust policy denies the token."""
    code, _, text = DENIAL.partition(": ")
    stage.sts.rejection = StsRejection(code, text, status=403)
    async with stage.daemon() as daemon:
        await daemon.logged("refresh_failed")
        async with stage.client_process(stage.variables(daemon.url, secret=BOTH)) as client:
            error = await client.error()
            must(DENIAL in error, error)


async def large_token(stage: Stage) -> None:
    """Get a session token of 4,096 bytes, the maximum of STS, and sign with it."""
    stage.sts.session_token_bytes = MAX_TOKEN_BYTES
    async with stage.daemon() as daemon:
        await daemon.logged("credentials_refreshed")
        async with stage.client_process(stage.variables(daemon.url, secret=BOTH)) as client:
            access_key_id = await client.gets()
            session = stage.sts.session_of(access_key_id)
            assert session is not None
            assert len(session.session_token) == MAX_TOKEN_BYTES
            if stage.client.has_sts:
                must(await client.signs() == access_key_id, "other credentials")


async def ipv6(stage: Stage) -> None:
    """Use the URL `http://[::1]:4772/v1/credentials`."""
    async with stage.daemon() as daemon:
        await daemon.logged("credentials_refreshed")
        url = daemon.url.replace("127.0.0.1", "[::1]")
        async with stage.client_process(stage.variables(url, secret=BOTH)) as client:
            await client.gets()


async def proxy(stage: Stage) -> None:
    """Use no proxy, although `HTTP_PROXY`, `HTTPS_PROXY` and `ALL_PROXY` are set and `NO_PROXY` is not."""
    async with stage.daemon() as daemon:
        await daemon.logged("credentials_refreshed")
        environment = stage.variables(daemon.url, secret=BOTH)
        for name in ("NO_PROXY", "no_proxy"):
            del environment[name]
        names = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
        environment |= dict.fromkeys([*names, *map(str.lower, names)], stage.trap.url)
        async with stage.client_process(environment) as client:
            await client.request("get")
            must(not stage.trap.lines, f"the proxy got a request: {stage.trap.lines}")
            await client.gets()


Case = Callable[[Stage], Awaitable[None]]

CASES: dict[str, Case] = {
    "first credentials": first_credentials,
    "signed call": signed_call,
    "secret by variable": secret_by_variable,
    "secret by file": secret_by_file,
    "secret rotated": secret_rotated,
    "sidecar restarted": sidecar_restarted,
    "cold start": cold_start,
    "slow start": slow_start,
    "STS down, then up": sts_down,
    "across expiry": across_expiry,
    "refusal shown": refusal_shown,
    "4 KiB token": large_token,
    "IPv6": ipv6,
    "proxy set": proxy,
}


async def _start_with_request(number: int, stage: Stage) -> None:
    """Let STS respond only after this number of HTTP requests, while the client fetches credentials once."""
    stage.sts.may_respond = trio.Event()

    async def respond() -> None:
        await tap.wait_for_requests(number)
        stage.sts.may_respond.set()

    async with stage.daemon() as daemon, trio.open_nursery() as nursery:
        tap = Tap(daemon.address)
        await nursery.start(tap.serve)
        url = f"{tap.url}/v1/credentials"
        async with stage.client_process(stage.variables(url, secret=BOTH)) as client:
            nursery.start_soon(respond)
            await client.gets()
        nursery.cancel_scope.cancel()


async def _outlive(stage: Stage, access_key_id: str) -> None:
    """Wait until the credentials have expired, in real time, because the SDKs use the machine's clock."""
    session = stage.sts.session_of(access_key_id)
    assert session is not None
    await trio.sleep(max(0.0, session.expires_at.timestamp() - time.time()))
