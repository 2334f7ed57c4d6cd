"""
Kill the daemon at random moments, and check that it leaves no broken files and serves only valid credentials.

A round starts a daemon and ends it with SIGKILL or SIGTERM. The signal is sent after a random number of log lines and
responses, or after a short random wait. The next round starts in the same directory. In half of the rounds, STS goes
down before a daemon with credentials is killed. The next daemon must then serve the same credentials without a gap,
from the state directory. `make kill-loop` runs hundreds of rounds (KILL_ROUNDS). To repeat a failed run, set KILL_SEED
to the seed that the failed run printed.
"""

import configparser
import json
import os
import random
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
import trio

from tests.support.fakes.scripted_sts import Reply, ScriptedSts, good_body
from tests.support.processes import (
    GUARD_SECONDS,
    Running,
    get,
    hour_long_reply,
    pod_environment,
    run_daemon,
    signalled_before,
)

ROUNDS = int(os.environ.get("KILL_ROUNDS", "24"))
SEED = int(os.environ.get("KILL_SEED", "20270115"))

AT_ONCE = 2
"""The number of rounds that run in parallel, each in its own directory. One round can start while another waits."""

MOST_STEPS = 9
"""The maximum number of log lines and responses before the signal. The first credentials arrive at about step 3."""

MOST_SECONDS = 0.3
"""The maximum wait before a signal that does not wait for output. Imports and the first exchange need about as long."""

MOST_DELAY_SECONDS = 0.1
"""The maximum delay of the scripted STS, so that signals also interrupt an exchange."""

SIGNALS = (signal.SIGKILL, signal.SIGTERM)


@dataclass(frozen=True, slots=True)
class RoundEnd:
    """The end of a round: the signal, and the number of steps or seconds before it."""

    signal_number: int
    steps: int
    seconds: float

    def __str__(self) -> str:
        moment = f"{self.steps} steps" if self.steps else f"{self.seconds:.3f} s"
        return f"{signal.Signals(self.signal_number).name} after {moment}"


@dataclass(slots=True)
class Counts:
    """The number of occurrences of each case, so that a person can check that the rounds covered each case."""

    answers: int = 0
    held_or_refused: int = 0
    killed_before_credentials: int = 0
    killed_with_credentials: int = 0
    restarted_in_an_outage: int = 0
    answers_in_an_outage: int = 0


class Place:
    """A directory with a token and a secret, and an STS that returns different credentials in each round."""

    def __init__(self, directory: Path, sts: ScriptedSts, name: str) -> None:
        self.directory = directory
        self.sts = sts
        self.name = name
        secret_file = directory / "authorization"
        secret_file.write_text("a secret for the test")
        self.headers = {"Authorization": secret_file.read_text()}
        self.environment = pod_environment(
            directory / "token",
            sts.url,
            IRSA_SIDECAR_AUTHORIZATION_TOKEN_FILE=str(secret_file),
            IRSA_SIDECAR_CREDENTIALS_FILE=str(directory / "credentials"),
            IRSA_SIDECAR_STATE_DIR=str(directory / "state"),
            IRSA_SIDECAR_STATE_ALLOW_DISK="true",
            HOME=str(directory),
            TMPDIR=str(directory),
        )
        self.given: dict[str, dict[str, str]] = {}

    def listing(self) -> dict[str, bytes]:
        """Return all files except the credentials file, the role state files and their temporary files."""
        names = {str(path.relative_to(self.directory)): path for path in self.directory.rglob("*") if path.is_file()}
        ours = ("credentials", "state/role-")
        return {name: path.read_bytes() for name, path in names.items() if not name.startswith(ours)}

    def check_file(self) -> None:
        """Check that the credentials file does not exist, is empty, or contains complete credentials from STS."""
        file = configparser.RawConfigParser()
        file.read(self.directory / "credentials")
        assert file.sections() in ([], ["default"])
        for profile in map(file.__getitem__, file.sections()):
            given = self.given[profile["aws_access_key_id"]]
            assert profile["aws_secret_access_key"] == given["SecretAccessKey"]
            assert profile["aws_session_token"] == given["Token"]
            assert profile["x_security_token_expires"] == given["Expiration"]

    def script(self, number: int, delay_seconds: float) -> None:
        """Script the STS response for the next daemon. Each field of the credentials contains the daemon's number."""
        access_key_id = f"ASIA{self.name}{number:04d}"
        reply = hour_long_reply(access_key_id)
        expiration = reply.body.partition(b"<Expiration>")[2].partition(b"<")[0].decode()
        assert reply.body == good_body(access_key_id, expiration)
        self.given[access_key_id] = {
            "SecretAccessKey": f"{access_key_id}/secret",
            "Token": f"{access_key_id}/session",
            "Expiration": expiration,
        }
        self.sts.replies = [Reply(200, reply.body, delay_seconds=delay_seconds)]
        self.environment["AWS_ROLE_SESSION_NAME"] = access_key_id

    def script_outage(self) -> None:
        """Make STS close each connection. The daemons in this outage use the session name of the last daemon."""
        self.sts.replies = [Reply(raw=b"", reset=True)]

    def calls(self) -> int:
        """Return the number of requests with the current session name. STS may read a killed daemon's request later."""
        session = [self.environment["AWS_ROLE_SESSION_NAME"]]
        return sum(parse_qs(request.body.decode())["RoleSessionName"] == session for request in self.sts.requests)

    def check(self, body: dict[str, Any]) -> None:
        """Check that the body of a response with status 200 contains complete and valid credentials from STS."""
        assert body.items() >= self.given[body["AccessKeyId"]].items(), f"not credentials from STS: {body}"
        assert datetime.fromisoformat(body["Expiration"]) > datetime.now(UTC)


async def send_requests_until(place: Place, running: Running, steps: int, counts: Counts) -> None:
    """Send requests one after another until the daemon has produced `steps` log lines and responses in total."""
    answered = 0
    with trio.fail_after(GUARD_SECONDS):
        while answered + len(running.log) < steps:
            status, body = await get(running.url, place.headers)
            answered += 1
            if status == 200:
                place.check(body)
                counts.answers += 1
            else:
                assert status == 503
                counts.held_or_refused += 1


async def send_requests_during_exit(place: Place, url: str) -> None:
    """Send requests while the daemon stops. A client gets a complete response, a partial response or no response."""
    try:
        status, body = await get(url, place.headers)
    except (
        OSError,
        trio.BrokenResourceError,
        IndexError,
        json.JSONDecodeError,
    ):  # a refused or reset connection, or no complete response
        return
    if status == 200:
        place.check(body)


async def one_round(place: Place, end: RoundEnd, counts: Counts) -> None:
    before = place.listing()
    async with run_daemon(place.environment) as running:
        await send_requests_until(place, running, end.steps, counts)
        await trio.sleep(end.seconds)
        async with trio.open_nursery() as clients:
            clients.start_soon(send_requests_during_exit, place, running.url)
            status = await running.stop(end.signal_number)
        has_credentials = "credentials_refreshed" in running.errors
    assert status == (0 if end.signal_number == signal.SIGTERM else -signal.SIGKILL), running.errors
    assert "Traceback" not in running.errors
    assert place.listing() == before
    assert {path.name for path in place.directory.glob("credentials*")} <= {"credentials", "credentials.draft"}
    place.check_file()
    assert place.calls() == 1 if has_credentials else place.calls() <= 1
    counts.killed_with_credentials += has_credentials
    counts.killed_before_credentials += not has_credentials


async def round_in_outage(place: Place, end: RoundEnd, counts: Counts) -> None:
    """Kill a daemon that has credentials while STS is down. STS stays down for the next daemon."""
    async with run_daemon(place.environment) as running:
        await running.logged("credentials_saved")
        place.script_outage()
        await running.stop(signal.SIGKILL)
    key = place.environment["AWS_ROLE_SESSION_NAME"]
    assert place.calls() == 1
    async with run_daemon(place.environment) as running:
        await check_no_gap(place, running, key, end.steps, counts)
        await trio.sleep(end.seconds)
        async with trio.open_nursery() as clients:
            clients.start_soon(send_requests_during_exit, place, running.url)
            status = await running.stop(end.signal_number)
        assert "credentials_restored" in running.errors or not end.steps
    assert status == (0 if end.signal_number == signal.SIGTERM else -signal.SIGKILL), running.errors
    assert "Traceback" not in running.errors
    assert place.calls() == 1, "the daemon called STS before the time in the saved schedule"
    place.check_file()
    counts.restarted_in_an_outage += 1


async def check_no_gap(place: Place, running: Running, key: str, steps: int, counts: Counts) -> None:
    """Check that successive clients get the same credentials as before."""
    answered = 0
    with trio.fail_after(GUARD_SECONDS):
        while steps and (answered == 0 or answered + len(running.log) < steps):
            status, body = await get(running.url, place.headers)
            answered += 1
            assert (status, body.get("AccessKeyId")) == (200, key), body
            place.check(body)
    counts.answers_in_an_outage += answered


async def is_ready_after_one_call(place: Place) -> None:
    async with run_daemon(place.environment) as running:
        status, body = await get(running.url, place.headers)
        assert status == 200
        place.check(body)
        assert (await get(running.ready_url))[0] == 200
        await running.logged("credentials_file_written", profiles=["default"])
        assert await running.stop(signal.SIGTERM) == 0
    assert {path.name for path in place.directory.glob("credentials*")} == {"credentials"}
    assert place.calls() == 1


def round_ends(dice: random.Random) -> Iterator[RoundEnd]:
    """Yield a SIGKILL at the start, then both signals in random order, so that a short run has both signals."""
    yield RoundEnd(signal.SIGKILL, steps=0, seconds=0)
    while True:
        for signal_number in dice.sample(SIGNALS, k=2):
            by_steps = dice.random() < 0.5
            yield RoundEnd(
                signal_number,
                steps=dice.randint(1, MOST_STEPS) if by_steps else 0,
                seconds=0 if by_steps else dice.uniform(0, MOST_SECONDS),
            )


async def rounds(directory: Path, name: str, number: int, dice: random.Random, counts: Counts) -> None:
    """Run `number` rounds in one directory, one after another, and then a daemon that is not killed."""
    directory.mkdir()
    async with trio.open_nursery() as nursery:
        sts = ScriptedSts()
        await nursery.start(sts.serve)
        place = Place(directory, sts, name)
        for index, end in zip(range(number), round_ends(dice), strict=False):
            place.script(index, dice.uniform(0, MOST_DELAY_SECONDS))
            is_outage = index % 2 == 1
            print(f"place {name}, round {index}: {end}{', STS down' * is_outage}")
            await (round_in_outage if is_outage else one_round)(place, end, counts)
        place.script(number, 0)
        await is_ready_after_one_call(place)
        nursery.cancel_scope.cancel()


async def test_daemon_killed_at_any_moment_serves_valid_credentials(tmp_path: Path) -> None:
    print(f"KILL_SEED={SEED}")
    counts = Counts()
    async with trio.open_nursery() as places:
        for index in range(AT_ONCE):
            dice = random.Random(SEED + index)
            places.start_soon(rounds, tmp_path / str(index), str(index), ROUNDS // AT_ONCE, dice, counts)
    print(counts)
    assert counts.answers
    assert counts.killed_before_credentials
    assert counts.killed_with_credentials
    assert counts.restarted_in_an_outage == AT_ONCE * (ROUNDS // AT_ONCE // 2)
    assert counts.answers_in_an_outage


@pytest.mark.parametrize("signal_name", ["SIGTERM", "SIGINT"])
@pytest.mark.parametrize(
    ("owner", "name"),
    [("trio", "run"), ("trio._core._run.Runner", "spawn_impl"), ("trio", "open_signal_receiver")],
    ids=["the imports are done", "trio creates its first task", "the signal has no receiver yet"],
)
async def test_signal_before_a_handler_exists_ends_with_status_zero(
    tmp_path: Path, owner: str, name: str, signal_name: str
) -> None:
    """
    Send the signal at rare moments, which only one in thousands of rounds reaches.

    While trio creates its first task, it does not handle exceptions yet.
    """
    environment = pod_environment(tmp_path / "token", "http://127.0.0.1:1")
    async with run_daemon(environment, prelude=signalled_before(owner, name, signal_name)) as running:
        assert await running.ended() == 0
    assert "Traceback" not in running.errors


async def test_check_finds_mixed_and_expired_credentials(tmp_path: Path) -> None:
    place = Place(tmp_path, ScriptedSts(), "X")
    place.script(1, 0)
    place.script(2, 0)
    first, second = ({"AccessKeyId": name, **rest} for name, rest in place.given.items())
    place.check(first)
    with pytest.raises(AssertionError, match="not credentials from STS"):
        place.check({**first, "Token": second["Token"]})
    place.given["ASIAX0001"]["Expiration"] = "2026-01-02T03:04:05Z"
    with pytest.raises(AssertionError):
        place.check({**first, "Expiration": "2026-01-02T03:04:05Z"})
