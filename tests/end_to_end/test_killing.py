"""
Killed at any moment, the daemon leaves nothing behind and never lies.

A round starts a daemon and ends it by SIGKILL or SIGTERM: after a random number of the things that it has said, log
lines and answers to clients who ask again and again, or, while it starts and says nothing, after a short random wait.
The next round starts in the same place. In half of the rounds STS goes down before a daemon with credentials is killed,
and the next one must serve the same credentials without a gap, from the state directory. `make kill-loop` does hundreds
of rounds (KILL_ROUNDS); KILL_SEED repeats what a failure printed.
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
"""Rounds side by side, each in its own place, so that one starts while another waits."""

MOST_STEPS = 9
"""Of progress before the signal. The first credentials are about the third, so signals come before and after."""

MOST_SECONDS = 0.3
"""From the bind to a signal that waits for nothing said: about what the imports and the first exchange take."""

MOST_DELAY_SECONDS = 0.1
"""Of the scripted STS, so that signals also meet an exchange under way."""

SIGNALS = (signal.SIGKILL, signal.SIGTERM)


@dataclass(frozen=True, slots=True)
class Death:
    """How a round ends: by which signal, after how many steps, or seconds if there are none."""

    signal_number: int
    steps: int
    seconds: float

    def __str__(self) -> str:
        moment = f"{self.steps} steps" if self.steps else f"{self.seconds:.3f} s"
        return f"{signal.Signals(self.signal_number).name} after {moment}"


@dataclass(slots=True)
class Counts:
    """What happened, for a person to see that the loop met what it is for."""

    answers: int = 0
    held_or_refused: int = 0
    killed_before_credentials: int = 0
    killed_with_credentials: int = 0
    restarted_in_an_outage: int = 0
    answers_in_an_outage: int = 0


class Place:
    """A directory with a token and an authorization secret, and an STS that gives each caller a set of its own."""

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
        """All files but those of credentials, and the one draft of each that a killed daemon may leave."""
        names = {str(path.relative_to(self.directory)): path for path in self.directory.rglob("*") if path.is_file()}
        ours = ("credentials", "state/role-")
        return {name: path.read_bytes() for name, path in names.items() if not name.startswith(ours)}

    def check_file(self) -> None:
        """It holds a whole set that STS gave, or none, or is not there yet."""
        file = configparser.RawConfigParser()
        file.read(self.directory / "credentials")
        assert file.sections() in ([], ["default"])
        for profile in map(file.__getitem__, file.sections()):
            given = self.given[profile["aws_access_key_id"]]
            assert profile["aws_secret_access_key"] == given["SecretAccessKey"]
            assert profile["aws_session_token"] == given["Token"]
            assert profile["x_security_token_expires"] == given["Expiration"]

    def script(self, number: int, delay_seconds: float) -> None:
        """What STS says to the next daemon: one whole set, in which every part names the set."""
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
        """STS ends each connection; the daemons to come ask for the same session as the one before."""
        self.sts.replies = [Reply(raw=b"", reset=True)]

    def calls(self) -> int:
        """Of the daemon that was scripted last. One that was killed may have left a request that STS reads later."""
        session = [self.environment["AWS_ROLE_SESSION_NAME"]]
        return sum(parse_qs(request.body.decode())["RoleSessionName"] == session for request in self.sts.requests)

    def check(self, body: dict[str, Any]) -> None:
        """Every 200 is one of the whole sets that STS gave, and it lives."""
        assert body.items() >= self.given[body["AccessKeyId"]].items(), f"no set that was given: {body}"
        assert datetime.fromisoformat(body["Expiration"]) > datetime.now(UTC)


async def ask_until(place: Place, running: Running, steps: int, counts: Counts) -> None:
    """Client after client, until the daemon has said `steps` things in all."""
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


async def ask_while_it_dies(place: Place, url: str) -> None:
    """Clients that are there as the signal comes: they get a whole answer, a cut one, or none, but no bad one."""
    try:
        status, body = await get(url, place.headers)
    except (OSError, trio.BrokenResourceError, IndexError, json.JSONDecodeError):  # refused, reset, none or half of it
        return
    if status == 200:
        place.check(body)


async def one_round(place: Place, death: Death, counts: Counts) -> None:
    before = place.listing()
    async with run_daemon(place.environment) as running:
        await ask_until(place, running, death.steps, counts)
        await trio.sleep(death.seconds)
        async with trio.open_nursery() as clients:
            clients.start_soon(ask_while_it_dies, place, running.url)
            status = await running.stop(death.signal_number)
        has_credentials = "credentials_refreshed" in running.errors
    assert status == (0 if death.signal_number == signal.SIGTERM else -signal.SIGKILL), running.errors
    assert "Traceback" not in running.errors
    assert place.listing() == before
    assert {path.name for path in place.directory.glob("credentials*")} <= {"credentials", "credentials.draft"}
    place.check_file()
    assert place.calls() == 1 if has_credentials else place.calls() <= 1
    counts.killed_with_credentials += has_credentials
    counts.killed_before_credentials += not has_credentials


async def one_round_in_an_outage(place: Place, death: Death, counts: Counts) -> None:
    """STS is down when a daemon with credentials is killed, and stays down for the next one."""
    async with run_daemon(place.environment) as running:
        await running.logged("credentials_saved")
        place.script_outage()
        await running.stop(signal.SIGKILL)
    key = place.environment["AWS_ROLE_SESSION_NAME"]
    assert place.calls() == 1
    async with run_daemon(place.environment) as running:
        await without_a_gap(place, running, key, death.steps, counts)
        await trio.sleep(death.seconds)
        async with trio.open_nursery() as clients:
            clients.start_soon(ask_while_it_dies, place, running.url)
            status = await running.stop(death.signal_number)
        assert "credentials_restored" in running.errors or not death.steps
    assert status == (0 if death.signal_number == signal.SIGTERM else -signal.SIGKILL), running.errors
    assert "Traceback" not in running.errors
    assert place.calls() == 1, "the saved schedule says later"
    place.check_file()
    counts.restarted_in_an_outage += 1


async def without_a_gap(place: Place, running: Running, key: str, steps: int, counts: Counts) -> None:
    """Client after client, each of whom gets the credentials of before."""
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


def deaths(dice: random.Random) -> Iterator[Death]:
    """The first at the start, whatever the machine's speed. Then both signals in turn, so that a short run has both."""
    yield Death(signal.SIGKILL, steps=0, seconds=0)
    while True:
        for signal_number in dice.sample(SIGNALS, k=2):
            by_steps = dice.random() < 0.5
            yield Death(
                signal_number,
                steps=dice.randint(1, MOST_STEPS) if by_steps else 0,
                seconds=0 if by_steps else dice.uniform(0, MOST_SECONDS),
            )


async def rounds(directory: Path, name: str, number: int, dice: random.Random, counts: Counts) -> None:
    """`number` daemons in one place, one after the other, and a last one that lives."""
    directory.mkdir()
    async with trio.open_nursery() as nursery:
        sts = ScriptedSts()
        await nursery.start(sts.serve)
        place = Place(directory, sts, name)
        for index, death in zip(range(number), deaths(dice), strict=False):
            place.script(index, dice.uniform(0, MOST_DELAY_SECONDS))
            is_outage = index % 2 == 1
            print(f"place {name}, round {index}: {death}{', STS down' * is_outage}")
            await (one_round_in_an_outage if is_outage else one_round)(place, death, counts)
        place.script(number, 0)
        await is_ready_after_one_call(place)
        nursery.cancel_scope.cancel()


async def test_killed_at_any_moment_serves_no_bad_credentials(tmp_path: Path) -> None:
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
    ids=["the imports are done", "trio makes its first task", "nothing listens for it yet"],
)
async def test_a_signal_in_a_moment_before_the_daemon_listens_for_it_ends_with_zero(
    tmp_path: Path, owner: str, name: str, signal_name: str
) -> None:
    """Moments that the rounds would meet once in thousands. In the second one trio takes no exception for an end."""
    environment = pod_environment(tmp_path / "token", "http://127.0.0.1:1")
    async with run_daemon(environment, prelude=signalled_before(owner, name, signal_name)) as running:
        assert await running.ended() == 0
    assert "Traceback" not in running.errors


async def test_the_check_of_a_set_finds_one_of_two_halves_and_one_that_has_expired(tmp_path: Path) -> None:
    place = Place(tmp_path, ScriptedSts(), "X")
    place.script(1, 0)
    place.script(2, 0)
    first, second = ({"AccessKeyId": name, **rest} for name, rest in place.given.items())
    place.check(first)
    with pytest.raises(AssertionError, match="no set that was given"):
        place.check({**first, "Token": second["Token"]})
    place.given["ASIAX0001"]["Expiration"] = "2026-01-02T03:04:05Z"
    with pytest.raises(AssertionError):
        place.check({**first, "Expiration": "2026-01-02T03:04:05Z"})
