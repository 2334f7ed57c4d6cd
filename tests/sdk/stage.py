"""
Provide the environment of a case: an STS, `irsa-sidecar run`, a client, and a trap for misdirected requests.

The client gets the variables that `irsa-sidecar exec` sets. A case may remove or add variables.
"""

import os
import time
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import trio

from sidecar.addresses import format_address
from sidecar.client.environment import Offer, client_environment
from sidecar.serving.authorization import new_secret, write_secret
from tests.sdk.build import command
from tests.sdk.catalogue import ROOT, Client
from tests.sdk.client_process import ClientProcess
from tests.sdk.sts import REGION, StrictSts
from tests.sdk.tap import Tap
from tests.support.fakes.tokens import service_account_token
from tests.support.processes import Running, our_program, pod_environment, run_daemon, started

VARIABLE, FILE = "AWS_CONTAINER_AUTHORIZATION_TOKEN", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"
BOTH = (VARIABLE, FILE)

Remedy = Mapping[str, str | None]
"""The type of a remedy: variables to set, or to remove if the value is None."""


@dataclass
class Stage:
    """The environment of one case. `more` overrides the client's variables."""

    client: Client
    directory: Path
    sts: StrictSts
    trap: Tap
    more: Remedy

    @property
    def token_file(self) -> Path:
        return self.directory / "token"

    @property
    def secret_file(self) -> Path:
        return self.directory / "authorization"

    def rotate_token(self) -> str:
        """Replace the service account token, and return the new token."""
        token = service_account_token(time.time(), jti="rotated")
        draft = self.directory / "token.draft"
        draft.write_text(token)
        draft.replace(self.token_file)
        return token

    def rotate_secret(self) -> None:
        write_secret(str(self.secret_file), new_secret())

    @asynccontextmanager
    async def daemon(self, *, asks_for_secret: bool = True) -> AsyncIterator[Running]:
        environment = pod_environment(self.token_file, self.sts.url)
        if asks_for_secret:
            self.rotate_secret()
            environment["IRSA_SIDECAR_AUTHORIZATION_TOKEN_FILE"] = str(self.secret_file)
        async with run_daemon(environment) as running:
            yield running

    @asynccontextmanager
    async def daemon_again(self, before: Running) -> AsyncIterator[Running]:
        """Run another daemon on the port of the stopped daemon, with the same files."""
        environment = pod_environment(self.token_file, self.sts.url) | {
            "IRSA_SIDECAR_AUTHORIZATION_TOKEN_FILE": str(self.secret_file),
            "IRSA_SIDECAR_LISTEN": format_address(*before.address),
        }
        async with started([*our_program(), "run"], environment) as running:
            yield running

    def variables(self, url: str, *, secret: Collection[str] = ()) -> dict[str, str]:
        """Return the client's environment with the endpoint's URL. `secret` selects the variables of the secret."""
        held = self.secret_file.read_text() if secret else ""
        offer = Offer(url, held, str(self.secret_file), REGION)
        environment = client_environment(_without_settings(os.environ), offer)
        for name in set(BOTH) - set(secret):
            del environment[name]
        return environment | {
            "AWS_ENDPOINT_URL_STS": self.sts.url,
            # An SDK that falls back to the metadata service must not search for it outside this machine.
            "AWS_EC2_METADATA_SERVICE_ENDPOINT": self.trap.url,
            "AWS_METADATA_ENDPOINT": self.trap.url,
        }

    @asynccontextmanager
    async def client_process(self, environment: Mapping[str, str]) -> AsyncIterator[ClientProcess]:
        """Run the client's process with this environment until the block ends."""
        wanted = {name: value for name, value in {**environment, **self.more}.items() if value is not None}
        stderr = self.directory / "stderr"
        with stderr.open("ab") as written:
            process = await trio.lowlevel.open_process(
                command(self.client), stdin=-1, stdout=-1, stderr=written, cwd=ROOT, env=wanted
            )
        try:
            yield ClientProcess(process, stderr, self.sts)
        finally:
            process.kill()
            with trio.CancelScope(shield=True):
                await process.wait()
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    await trio.aclose_forcefully(stream)


@asynccontextmanager
async def stage_for(client: Client, directory: Path, more: Remedy) -> AsyncIterator[Stage]:
    sts, trap = StrictSts(), Tap()
    async with trio.open_nursery() as nursery:
        await nursery.start(sts.serve)
        await nursery.start(trap.serve)
        yield Stage(client, directory, sts, trap, more)
        nursery.cancel_scope.cancel()
    assert not sts.faults, sts.faults


def _without_settings(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables without this machine's settings of AWS, proxies and coverage."""
    return {
        name: value
        for name, value in environ.items()
        if not name.startswith(("AWS_", "COVERAGE_")) and not name.lower().endswith("_proxy")
    }
