"""
The roles in service: each with a loop and credentials of its own, and all of them changed as one.

Rule: no failure of one role reaches another, and a change of roles is made whole or not at all. A role that stays as it
was keeps its loop and its set. One that is asked for in another way starts anew; while it is still the same IAM role,
its old set stays in service until the next one is there.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import trio

from sidecar import admin, endpoint
from sidecar.authorization import Authorization
from sidecar.clock import Clock, Instant
from sidecar.log import Logger
from sidecar.refresher import Refresher
from sidecar.role import DEFAULT_ROLE, Role
from sidecar.store import Snapshot

RESTART_SECONDS = 10.0
"""Before a refresher that raised is started again: long enough not to spin, well within a session's half life."""


class ServedRole:
    """
    A role as the endpoint sees it (endpoint.Route), put together from what keeps its parts.

    `before` is the set that the same IAM role had in service under an older configuration.
    """

    def __init__(
        self,
        refresher: Refresher,
        authorization: Authorization | None,
        clock: Clock,
        before: Snapshot | None = None,
    ) -> None:
        self.refresher = refresher
        self.store = refresher.store
        self.role = refresher.role.name
        self.role_arn = refresher.role.final_arn
        self.allow_uids = refresher.role.allow_uids
        self.first_attempt = refresher.first_attempt
        self.scope = trio.CancelScope()
        """Of its loop."""
        self._authorization = authorization
        self._clock = clock
        self._before = before

    @property
    def snapshot(self) -> Snapshot | None:
        return self.store.snapshot or self._before

    @property
    def authorization(self) -> bytes | None:
        return None if self._authorization is None else self._authorization.secret(self._clock.monotonic())

    @property
    def failure(self) -> str | None:
        return self.refresher.health.trouble

    def alive(self, now: Instant) -> Snapshot | None:
        """The set in service, while it lives."""
        snapshot = self.snapshot
        return snapshot if snapshot is not None and snapshot.is_alive(now) else None

    def state(self, now: Instant) -> admin.RoleState:
        health, snapshot = self.refresher.health, self.snapshot
        return admin.RoleState(
            role=self.role,
            is_ready=self.alive(now) is not None,
            trouble=health.trouble,
            looked_at=health.looked_at,
            credentials_expire_at=snapshot.credentials.expires_at.timestamp() if snapshot else None,
            token_expires_at=health.token_expires_at,
            skew_seconds=health.skew_seconds,
        )


class Changes(NamedTuple):
    """The names of the roles that a new configuration added, took away or asks for in another way."""

    added: list[str]
    removed: list[str]
    changed: list[str]


Make = Callable[[Role, Snapshot | None], ServedRole]
"""A role in service, with the set that it may go on with. Raises ConfigurationError."""


class ServedRoles:
    """All roles in service. `make` puts one together; `run` keeps their loops."""

    def __init__(self, roles: Sequence[Role], make: Make, log: Logger) -> None:
        self._make = make
        self._log = log
        self._nursery: trio.Nursery | None = None
        self._by_name: Mapping[str, ServedRole] = {}
        self.routes: Mapping[bytes, endpoint.Route] = {}
        """By path. Swapped whole, so whoever takes it once sees one configuration."""
        self.replace(roles)

    def __iter__(self) -> Iterator[ServedRole]:
        return iter(self._by_name.values())

    def __getitem__(self, name: str) -> ServedRole:
        return self._by_name[name]

    @property
    def main(self) -> ServedRole:
        """The role for whoever cannot say which: the one called `default`, else the first."""
        return self._by_name.get(DEFAULT_ROLE) or next(iter(self))

    def replace(self, roles: Sequence[Role]) -> Changes:
        """Put these in service, in place of those before. Raises ConfigurationError, and then nothing has changed."""
        before, after = self._by_name, {role.name: self._successor(role) for role in roles}
        self._by_name = after
        self.routes = {served.refresher.role.path.encode(): served for served in after.values()}
        for name, served in before.items():
            if after.get(name) is not served:
                served.scope.cancel()
        for name, served in after.items():
            if self._nursery is not None and before.get(name) is not served:
                self._nursery.start_soon(self._keep, served)
        return Changes(
            added=[name for name in after if name not in before],
            removed=[name for name in before if name not in after],
            changed=[name for name in after if name in before and after[name] is not before[name]],
        )

    async def run(self) -> None:
        """Every role's loop, until cancelled."""
        async with trio.open_nursery() as self._nursery:
            for served in self:
                self._nursery.start_soon(self._keep, served)
            await trio.sleep_forever()

    async def first_credentials(self) -> None:
        """Until every role has had a set. The caller brings the deadline."""
        for served in list(self):
            while served.snapshot is None:
                await served.store.wait_for_next()

    async def first_attempts(self) -> None:
        """Until every role has tried to get a set. The caller brings the deadline."""
        for served in list(self):
            await served.first_attempt.wait()

    async def next_set(self) -> None:
        """Until any of the roles has another set. The caller brings the deadline."""
        async with trio.open_nursery() as nursery:

            async def wait_for(served: ServedRole) -> None:
                await served.store.wait_for_next()
                nursery.cancel_scope.cancel()

            for served in self:
                nursery.start_soon(wait_for, served)

    def _successor(self, role: Role) -> ServedRole:
        before = self._by_name.get(role.name)
        if before is None:
            return self._make(role, None)
        old = before.refresher.role
        if old == role:
            return before
        return self._make(role, before.snapshot if old.final_arn == role.final_arn else None)

    async def _keep(self, served: ServedRole) -> None:
        with served.scope:
            while True:
                try:
                    await served.refresher.run()
                except Exception as exc:  # noqa: BLE001  whatever it is, the credentials in service must stay there
                    self._log.critical(
                        "refresher_failed", role=served.role, exc=exc, restart_in_seconds=RESTART_SECONDS
                    )
                await trio.sleep(RESTART_SECONDS)
