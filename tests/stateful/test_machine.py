"""
Check the guarantees about credentials under any order of faults, with a state machine and without an event loop.

The real refresher runs its turns with a real token file and real response bytes, in a world whose true time is known.
The real endpoint parses real request bytes and responds to them. After each step:

- No credentials are served past their true expiration, except for a change that none of our clocks can see
  (`Grant.may_be_served`).
- The newest valid credentials are served to every client that has the secret until they expire, less a safety margin
  (`Grant.must_be_served`). The margin has three parts: one second for the rounding of `Date`, the duration of the
  exchange, and a forward step of the wall clock until the next refresh. The daemon cannot distinguish that step from a
  suspend.
- All parts of a response belong to the same credentials.
- The daemon never calls STS more often than the back-off tables allow.

`make stateful` runs many more steps than the normal test run.
"""

import json
import os
import random
import tempfile
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from sidecar.daemon.authorization_files import Authorization
from sidecar.daemon.served_roles import ServedRole
from sidecar.errors import NextStep
from sidecar.metrics import Metrics
from sidecar.refresh import schedule
from sidecar.refresh.refresher import Refresher, Sources
from sidecar.role import Role
from sidecar.serving import container_credentials as endpoint
from sidecar.serving import http
from sidecar.serving.authorization import Secret
from sidecar.serving.hosts import LOOPBACK
from sidecar.store import Store
from sidecar.sts.client import ExchangeResult
from sidecar.sts.errors import NEXT_STEPS
from sidecar.sts.request import ExchangeRequest
from sidecar.token import Token
from tests.stateful.faults import HOUR, breakages, damaged, latencies, spans, steps_of_wall, sts_clock_errors
from tests.stateful.world import GOOD, Behaviour, Grant, StsInWorld, World
from tests.support.fakes.exchange import ROLE_ARN
from tests.support.fakes.kubelet import FakeVolume
from tests.support.fakes.tokens import service_account_token
from tests.unit.daemon.test_daemon import make_log

STEPS = int(os.environ.get("STATEFUL_STEPS", "2000"))
STEPS_A_RUN = 50

SPARE_RUNS = 1.2
"""The factor for the number of runs, because some runs end early."""

DURATION_SECONDS = 3600
SECRET = b"endpoint-secret-of-the-pod"
PATH = b"/v1/credentials"

SHORTEST_SLEEP_SECONDS = 0.001
"""The minimum sleep, so that time advances despite the rounding of floats."""

RAMP = 7
"""The number of consecutive failures after which no delay of the back-off table increases."""

STEADY_SECONDS = min(
    schedule.CHANGED_TOKEN_PAUSE_SECONDS,
    *(back_off.delay_seconds(RAMP, 0.0) for back_off in schedule.BACK_OFFS.values()),
)
"""The minimum time in seconds between attempts after many failures of any kind."""


class Machine(RuleBasedStateMachine):
    """A state machine of one Pod from its start."""

    steps: ClassVar[int] = 0
    attempts: ClassVar[int] = 0
    responses_by_status: ClassVar[dict[int, int]] = {}

    def __init__(self) -> None:
        super().__init__()
        self._directory = tempfile.TemporaryDirectory()
        directory = Path(self._directory.name)
        (directory / "volume").mkdir()
        self.volume = FakeVolume(directory / "volume")
        self.world = World()
        self.sts = StsInWorld(self.world)
        self.steps_of_wall_at: list[float] = []
        self.in_service: Grant | None = None
        self._jitter = random.Random(0)
        self.refresher = Refresher(
            Role("default", ROLE_ARN, self.volume.path, None, DURATION_SECONDS),
            self._exchange,
            Store(endpoint.credentials_response),
            sources=Sources(self.world.clock, self._next_jitter),
            log=make_log([]),
            metrics=Metrics(),
        )
        self.route = ServedRole(self.refresher, Authorization("secret", Secret(SECRET, None)), self.world.clock)

    def teardown(self) -> None:
        Machine.attempts += len(self.sts.called_at)
        self._directory.cleanup()

    @initialize(seed=st.integers(0, 1000), wants_longest=st.booleans())
    def start(self, seed: int, *, wants_longest: bool) -> None:
        self._jitter = random.Random(seed)
        if wants_longest:
            self.refresher.role = self.refresher.role._replace(duration_seconds=None)
        self.token_is_rotated()

    # Rules for time

    @rule(seconds=spans)
    def time_passes(self, seconds: float) -> None:
        """Let the loop sleep as long as it requests."""
        end = self.world.now + seconds
        while self.world.now < end:
            self.world.pass_time(max(SHORTEST_SLEEP_SECONDS, min(self._turn(), end - self.world.now)))

    @rule(seconds=spans)
    def process_is_frozen(self, seconds: float) -> None:
        """Stop the process, as in a frozen cgroup or on a busy node: both clocks advance."""
        self.world.pass_time(seconds)

    @rule(seconds=spans)
    def the_machine_sleeps(self, seconds: float) -> None:
        self.world.suspend(seconds)

    @rule(seconds=steps_of_wall)
    def the_wall_clock_is_set(self, seconds: float) -> None:
        self._step_wall(seconds)

    @rule(moments=st.integers(1, 3))
    def the_loop_wakes(self, moments: int) -> None:
        self.time_passes(moments * SHORTEST_SLEEP_SECONDS)

    @rule()
    def half_a_life_passes(self) -> None:
        self.time_passes(DURATION_SECONDS * (1 + schedule.JITTER) / 2)

    # Rules for the token

    @rule()
    def token_is_rotated(self) -> None:
        self.volume.write(service_account_token(self.world.now, lifetime_seconds=86_400, jti=str(random.random())))

    @rule(breakage=breakages)
    def token_is_broken(self, breakage: bytes | float | None) -> None:
        """
        Change the token file.

        None removes the file. Bytes are the new content. A number is the age of a token whose lifetime is one hour.
        """
        if isinstance(breakage, bytes):
            self.volume.write(breakage)
        elif breakage is not None:
            self.volume.write(service_account_token(self.world.now - breakage, lifetime_seconds=3600))
        elif os.path.lexists(self.volume.path):
            self.volume.remove()

    # Rules for STS

    @rule(latency=latencies, date_error=st.sampled_from([0.0, None]))
    def sts_is_healthy(self, latency: float, date_error: float | None) -> None:
        self.sts.behaviour = Behaviour(latency_seconds=latency, date_error=date_error)

    @rule(seconds=sts_clock_errors)
    def sts_clock_is_set(self, seconds: int) -> None:
        """Set the clock of STS. This clock changes, for example, after a failover to another endpoint."""
        self.world.sts_error = seconds

    @rule(life_seconds=st.integers(DURATION_SECONDS, 43_200), date_error=st.sampled_from([0.0, None]))
    def sessions_are_longer_than_requested(self, life_seconds: int, date_error: float | None) -> None:
        self.sts.behaviour = Behaviour(life_seconds=life_seconds, date_error=date_error)

    @rule(hours=st.integers(1, 12))
    def the_roles_limit_is_set(self, hours: int) -> None:
        self.sts.limit_seconds = hours * 3600

    @rule(date_error=st.one_of(st.floats(-90_000, 90_000), st.floats(-300, 300)), latency=latencies)
    def the_date_is_wrong(self, date_error: float, latency: float) -> None:
        self.sts.behaviour = Behaviour(latency_seconds=latency, date_error=date_error)

    @rule(
        life_seconds=st.one_of(st.integers(-10, 20), st.integers(20, DURATION_SECONDS)),
        date=st.sampled_from([0.0, None]),
    )
    def sessions_are_short(self, life_seconds: int, date: float | None) -> None:
        """Shorten the sessions, so that later credentials may expire earlier."""
        self.sts.behaviour = Behaviour(life_seconds=life_seconds, date_error=date)

    @rule(
        code=st.sampled_from([*NEXT_STEPS, "SomethingNew"]),
        status=st.sampled_from([400, 403, 429, 500, 503]),
        retry_after=st.sampled_from([None, "0", "30", "999999", "soon", "-1"]),
        latency=latencies,
    )
    def sts_refuses(self, code: str, status: int, retry_after: str | None, latency: float) -> None:
        self.sts.behaviour = Behaviour(code=code, status=status, retry_after=retry_after, latency_seconds=latency)

    @rule(code=st.sampled_from(["Timeout", "Unreachable", "Tls", "Proxy"]), latency=latencies)
    def sts_is_out_of_reach(self, code: str, latency: float) -> None:
        self.sts.behaviour = Behaviour(transport=code, latency_seconds=latency)

    @rule(edit=damaged, status=st.sampled_from([200, 200, 204, 302, 500]))
    def replies_are_malformed(self, edit: Callable[[bytes], bytes], status: int) -> None:
        self.sts.behaviour = Behaviour(edit=edit, status=status)

    @rule(seconds=steps_of_wall, latency=latencies, date_error=st.sampled_from([0.0, None]))
    def the_wall_clock_will_be_set_during_an_exchange(
        self, seconds: float, latency: float, date_error: float | None
    ) -> None:
        self.sts.behaviour = Behaviour(
            interruption=lambda _: self._once(lambda: self._step_wall(seconds)),
            latency_seconds=latency,
            date_error=date_error,
        )

    @rule(seconds=spans)
    def the_machine_will_sleep_during_an_exchange(self, seconds: float) -> None:
        self.sts.behaviour = Behaviour(interruption=lambda world: self._once(lambda: world.suspend(seconds)))

    @rule()
    def all_faults_end(self) -> None:
        """Remove all faults, and check that there are valid credentials within one back-off."""
        self.sts.behaviour = GOOD
        self.token_is_rotated()
        self._turn()
        self.time_passes(self._longest_wait_seconds() + SHORTEST_SLEEP_SECONDS)
        self._turn()
        assert self.refresher.health.last_error is None
        assert self.route.state(self.world.clock.now()).is_ready

    # Rules for requests

    @rule(
        path=st.sampled_from([PATH, PATH + b"?x=1", b"/", b"/v1/credentials/other"]),
        secret=st.sampled_from([SECRET, b"wrong", None]),
    )
    def client_requests(self, path: bytes, secret: bytes | None) -> None:
        response = self._send(path, secret)
        is_ours = path.partition(b"?")[0] == PATH
        if not is_ours or secret != SECRET:
            assert response.status == (404 if not is_ours else 401 if secret is None else 403)
            assert response.snapshot is None
            assert b"ASIA" not in response.content

    @invariant()
    def credentials_are_served_until_they_expire(self) -> None:
        response = self._send(PATH, SECRET)
        Machine.responses_by_status[response.status] = Machine.responses_by_status.get(response.status, 0) + 1
        if response.status == 200:
            assert self._grant_in(response.content) is self.in_service
            assert self.in_service is not None
            assert self.in_service.may_be_served(self.world), "expired credentials are served"
        else:
            assert response.status == 503
            assert self.in_service is None or not self.in_service.must_be_served(self.world), (
                "valid credentials are not served"
            )

    @invariant()
    def a_step_is_counted(self) -> None:
        Machine.steps += 1

    # Methods that the rules use

    def _turn(self) -> float:
        """Run one turn of the loop, which never waits in this world. Return the seconds of its next sleep."""
        turn = self.refresher.turn()
        before, self.sts.last = self.in_service, None
        try:
            turn.send(None)
        except StopIteration as done:
            self._check_credentials_in_service(before)
            seconds: float = done.value
            return seconds
        raise AssertionError("the turn waited for something other than the exchange")

    def _check_credentials_in_service(self, before: Grant | None) -> None:
        """
        Check the credentials in service.

        Credentials that expire later always replace earlier credentials, and valid credentials replace expired
        credentials. STS's clock has no effect.
        """
        snapshot, grant = self.route.snapshot, self.sts.last
        was_valid = before is not None and before.must_be_served(self.world)
        self.in_service = None if snapshot is None else self.sts.grants[snapshot.credentials.access_key_id]
        if self.in_service is not before and before is not None and self.in_service is not None:
            covers = self.in_service.latest_expiration(self.world) >= before.earliest_expiration(self.world)
            assert covers or not was_valid, "older credentials replaced newer credentials"
        if isinstance(grant, Grant) and grant.must_be_served(self.world):
            assert self.in_service is grant or self._send(PATH, SECRET).status == 200
            assert self.in_service is not None
            covers = self.in_service.latest_expiration(self.world) >= grant.earliest_expiration(self.world)
            assert covers, "credentials that expire later are not in service"

    async def _exchange(self, request: ExchangeRequest, token: Token) -> ExchangeResult:
        self._check_attempts()
        reply = await self.sts(request, token)
        self.credentials_are_served_until_they_expire()
        return reply

    def _check_attempts(self) -> None:
        """
        Check the number of attempts within an hour.

        A steady rate of attempts is allowed. Each success allows RAMP + 3 more attempts with shorter delays, and each
        step of the wall clock allows one more attempt. The first attempt after a success may be three attempts: with a
        longer duration, with the longest duration that STS accepted, and with one hour.
        """
        hour_ago = self.world.now - HOUR
        attempts = sum(at > hour_ago for at in self.sts.called_at)
        granted = sum(at > hour_ago for at in self.sts.granted_at)
        steps = sum(at >= hour_ago for at in self.steps_of_wall_at)
        most = HOUR / STEADY_SECONDS + (RAMP + 3) * (granted + 1) + steps
        assert attempts <= most, f"{attempts} attempts within an hour, more than {most:.0f}"

    def _longest_wait_seconds(self) -> float:
        """Return the maximum back-off that may be in progress."""
        code, error = self.refresher.health.last_error_code, self.sts.refused
        if code is None:
            return schedule.SHORTEST_REFRESH_SECONDS
        if code.startswith("token_"):
            return schedule.TOKEN_POLL_SECONDS
        # The back-off grows with the remaining lifetime of the credentials. DURATION_SECONDS leads to its maximum.
        if error is None or error.code != code:  # the response was valid, but its times were absurd on our clocks
            return schedule.back_off_for(NextStep.RETRY, DURATION_SECONDS).cap_seconds
        retry_after_seconds = min(error.retry_after_seconds or 0.0, schedule.MAX_RETRY_AFTER_SECONDS) * (
            1.0 + schedule.JITTER
        )
        return max(schedule.back_off_for(error.next_step, DURATION_SECONDS).cap_seconds, retry_after_seconds)

    def _send(self, path: bytes, secret: bytes | None) -> endpoint.Response:
        lines = [b"GET " + path + b" HTTP/1.1", b"Host: 127.0.0.1"]
        lines += [b"Authorization: " + secret] if secret is not None else []
        request = http.parse(b"\r\n".join(lines) + b"\r\n\r\n")
        assert isinstance(request, http.Request)
        return endpoint.respond(request, {PATH: self.route}, LOOPBACK, self.world.clock.now(), os.getuid)

    def _grant_in(self, response: bytes) -> Grant:
        """Return the grant of the response, and check that every part belongs to it."""
        body = json.loads(response.partition(b"\r\n\r\n")[2])
        key = body["AccessKeyId"]
        grant = self.sts.grants[key]
        assert (body["SecretAccessKey"], body["Token"]) == (f"{key}/secret", f"{key}/session"), "mixed credentials"
        assert datetime.fromisoformat(body["Expiration"]).timestamp() == grant.expiration
        return grant

    def _next_jitter(self) -> float:
        return self._jitter.random()

    def _once(self, happens: Callable[[], None]) -> None:
        self.sts.behaviour = GOOD
        happens()

    def _step_wall(self, seconds: float) -> None:
        self.world.step_wall(seconds)
        self.steps_of_wall_at.append(self.world.now)


async def _directly(_path: str, function: Callable[..., Any], *arguments: object) -> Any:
    """Call the function directly, instead of file_thread.in_thread, which needs trio."""
    return function(*arguments)


async def _directly_shared(path: str, function: Callable[[str], Any]) -> Any:
    return function(path)


def test_credentials_keep_all_guarantees_under_any_faults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sidecar.refresh.refresher.in_thread", _directly)
    monkeypatch.setattr("sidecar.refresh.refresher.shared_check", _directly_shared)
    Machine.steps = Machine.attempts = 0
    Machine.responses_by_status = {}
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=int(STEPS / STEPS_A_RUN * SPARE_RUNS),
            stateful_step_count=STEPS_A_RUN,
            phases=[Phase.generate],
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
        ),
    )
    print(f"{Machine.steps} steps, {Machine.attempts} exchanges, responses by status: {Machine.responses_by_status}")
    assert Machine.steps >= STEPS
