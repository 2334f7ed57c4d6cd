"""Test the controls with the parts of the local services that they change, without sockets."""

from pathlib import Path
from typing import Any

import jwt
import pytest
import trio
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from trio.testing import MockClock

from sidecar.clock import Clock
from sidecar.local.control_panel import RETRY_SECONDS, ControlPanel, Effect
from sidecar.local.controls import CONTROLS, FAULT_SECONDS
from sidecar.local.effects import AHEAD_SECONDS, Machinery
from sidecar.local.kubelet import TokenVolume
from sidecar.local.pod_tokens import WRONG_AUDIENCE, PodTokens
from sidecar.local.service_account import TokenRequest
from tests.unit.local.conftest import AUDIENCE, POD, World


class Lab:
    """The services of `world`, their token volume and their controls. `refreshes` counts the demanded refreshes."""

    def __init__(self, world: World, directory: Path, private_keys: list[RSAPrivateKey]) -> None:
        self.world = world
        self.refreshes = 0
        self.machinery = Machinery(
            issuer=world.issuer,
            generate=lambda: private_keys[1],
            tokens=PodTokens(world.issuer, POD, TokenRequest(AUDIENCE, 600)),
            volume=TokenVolume(directory),
            sts=world.sts,
            clock=Clock(world.wall.time, trio.current_time),
            emit=world.emit,
            refresh=self._refresh,
        )
        self.panel = ControlPanel(self.machinery.effects(), monotonic=trio.current_time, emit=world.emit)

    def _refresh(self) -> None:
        self.refreshes += 1

    async def start(self, name: str) -> bool:
        return await self.panel.start(CONTROLS[name])

    async def exchange(self) -> str:
        """Exchange the token in the volume. Return the error code of STS, or `granted`."""
        token = self.machinery.volume.token_file.read_text()
        response = await self.world.call(WebIdentityToken=token)
        return str(response.get("Error", {}).get("Code", "granted"))


@pytest.fixture
def lab(world: World, tmp_path: Path, private_keys: list[RSAPrivateKey]) -> Lab:
    made = Lab(world, tmp_path / "volume", private_keys)
    made.machinery.volume.write(made.machinery.tokens.issue().raw, world.wall.time())
    return made


def test_every_control_has_an_effect(lab: Lab) -> None:
    assert set(lab.machinery.effects()) == set(CONTROLS)


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("expire-token", "ExpiredTokenException"),
        ("wrong-audience", "InvalidIdentityToken"),
        ("wrong-service-account", "AccessDenied"),
        ("sts-unavailable", "ServiceUnavailable"),
        ("sts-throttling", "Throttling"),
    ],
)
async def test_fault_changes_responses_for_its_duration(
    lab: Lab, name: str, code: str, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    nursery.start_soon(lab.panel.run)
    assert await lab.exchange() == "granted"
    assert await lab.start(name)
    assert await lab.exchange() == code
    assert lab.refreshes == 1
    await trio.sleep(FAULT_SECONDS - 1)
    assert await lab.exchange() == code
    await trio.sleep(2)
    assert await lab.exchange() == "granted"
    assert lab.panel.active == {}
    assert ("control_ended", {"control": name, "reason": "time"}) in lab.world.events


@pytest.mark.parametrize(("name", "side"), [("sts-unavailable", "Receiver"), ("sts-throttling", "Sender")])
async def test_error_of_sts_names_the_side_at_fault(lab: Lab, name: str, side: str) -> None:
    await lab.start(name)
    assert (await lab.world.call())["Error"]["Type"] == side


async def test_silent_sts_responds_only_after_the_fault(lab: Lab, autojump_clock: MockClock) -> None:
    await lab.start("sts-silent")
    with trio.move_on_after(FAULT_SECONDS) as waited:
        await lab.exchange()
    assert waited.cancelled_caught
    assert "request_unanswered" in dict(lab.world.events)
    assert await lab.panel.end(CONTROLS["sts-silent"])
    assert await lab.exchange() == "granted"


@pytest.mark.parametrize(("next_fault", "code"), [(None, "granted"), ("sts-throttling", "Throttling")])
async def test_waiting_request_continues_after_the_silence(
    lab: Lab, nursery: trio.Nursery, autojump_clock: MockClock, next_fault: str | None, code: str
) -> None:
    codes = []

    async def call() -> None:
        codes.append(await lab.exchange())

    await lab.start("sts-silent")
    nursery.start_soon(call)
    await trio.sleep(1)
    assert codes == []
    if next_fault is None:
        assert await lab.panel.end(CONTROLS["sts-silent"])
    else:
        assert await lab.start(next_fault)
    await trio.sleep(1)
    assert codes == [code]


async def test_person_can_end_a_fault_early(lab: Lab) -> None:
    await lab.start("sts-unavailable")
    assert await lab.panel.end(CONTROLS["sts-unavailable"])
    assert await lab.exchange() == "granted"
    assert await lab.panel.end(CONTROLS["sts-unavailable"])


async def test_new_fault_of_a_part_replaces_the_earlier_one(lab: Lab) -> None:
    await lab.start("wrong-audience")
    await lab.start("wrong-service-account")
    assert await lab.exchange() == "AccessDenied"
    assert [fault.control.name for fault in lab.panel.active.values()] == ["wrong-service-account"]


async def test_faults_of_two_parts_are_active_together(lab: Lab) -> None:
    await lab.start("sts-throttling")
    await lab.start("clock-ahead")
    assert lab.machinery.daemon_clock.clock.wall() == lab.world.wall.time() + AHEAD_SECONDS
    assert set(lab.panel.active) == {"sts", "clock"}
    await lab.panel.end(CONTROLS["clock-ahead"])
    assert lab.machinery.daemon_clock.clock.wall() == lab.world.wall.time()


async def test_rotation_signs_a_new_token_with_a_new_key(lab: Lab) -> None:
    before = lab.world.issuer.keys.active.kid
    assert await lab.start("rotate-key")
    assert lab.world.issuer.keys.active.kid != before
    assert await lab.exchange() == "granted"
    assert lab.panel.active == {}


async def test_refresh_only_demands_a_refresh(lab: Lab) -> None:
    assert await lab.start("refresh")
    assert (lab.refreshes, lab.panel.active) == (1, {})


async def test_kubelet_gets_no_token_while_the_token_is_expired(lab: Lab) -> None:
    await lab.start("expire-token")
    with pytest.raises(OSError, match="issues no token"):
        lab.machinery.tokens.issue()


async def test_wrong_audience_is_that_of_the_api_server(lab: Lab) -> None:
    await lab.start("wrong-audience")
    token = lab.machinery.volume.token_file.read_text()
    assert jwt.decode(token, options={"verify_signature": False})["aud"] == [WRONG_AUDIENCE]


async def test_fault_whose_end_fails_ends_later(lab: Lab, nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    """The disk is full when the fault ends. The panel tries the end again until it succeeds."""
    ends = 0

    async def begin() -> None:
        pass

    async def end() -> None:
        nonlocal ends
        ends += 1
        if ends < 3:
            raise OSError("No space left on device")

    events: list[tuple[str, Any]] = []
    control = CONTROLS["wrong-audience"]
    panel = ControlPanel(
        {control.name: Effect(begin, end)},
        monotonic=trio.current_time,
        emit=lambda event, /, **fields: events.append((event, fields.get("reason"))),
    )
    nursery.start_soon(panel.run)
    await panel.start(control)
    await trio.sleep(FAULT_SECONDS + 2 * RETRY_SECONDS + 1)
    assert [event for event, _ in events] == ["control_started", "control_failed", "control_failed", "control_ended"]
    assert panel.active == {}


async def test_control_that_fails_reports_the_reason(lab: Lab, tmp_path: Path) -> None:
    lab.machinery.volume = TokenVolume(tmp_path / "file" / "volume")
    (tmp_path / "file").write_text("")
    assert not await lab.start("wrong-audience")
    assert lab.panel.active == {}
    assert lab.world.events[-1][0] == "control_failed"
    assert lab.machinery.tokens.fault.audience is None
