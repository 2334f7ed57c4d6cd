"""
Keep the roles in service, each with its own refresh loop and credentials, and replace all of them at once.

Rule: no failure of one role affects another, and a change of the roles is applied whole or not at all. An unchanged
role keeps its loop and its credentials. A changed role gets a new loop. If it is still the same IAM role, its old
credentials stay in service until the next ones arrive. If its IAM roles and token file are the same, its back-off
continues too.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import trio

from sidecar.background import RESTART_SECONDS, keep_running
from sidecar.clock import Clock, Instant
from sidecar.daemon.authorization_files import MAX_WAITING, Authorization, AuthorizationFiles
from sidecar.log import Logger
from sidecar.refresh import schedule
from sidecar.refresh.refresher import Progress, Refresher
from sidecar.role import DEFAULT_ROLE, Role, secret_files
from sidecar.serving import admin
from sidecar.serving import container_credentials as endpoint
from sidecar.store import Snapshot


class ServedRole:
    """One role in service, with its refresher, store and secret. It implements `endpoint.Route`."""

    def __init__(self, refresher: Refresher, authorization: Authorization | None, clock: Clock) -> None:
        self.refresher = refresher
        self.store = refresher.store
        self.role_name = refresher.role.name
        self.role_arn = refresher.role.final_arn
        self.allow_uids = refresher.role.allow_uids
        self.first_attempt = refresher.first_attempt
        self.scope = trio.CancelScope()
        """The cancel scope of the role's refresh loop."""
        self._authorization = authorization
        self._clock = clock

    @property
    def snapshot(self) -> Snapshot | None:
        return self.store.snapshot

    @property
    def authorization(self) -> bytes | None:
        return None if self._authorization is None else self._authorization.secret

    @property
    def can_check_secret(self) -> bool:
        return self._authorization is not None and self._authorization.waiting < MAX_WAITING

    async def check_secret(self) -> None:
        """Check the secret's file after a client sent a wrong secret. The caller sets a deadline."""
        if self._authorization is not None:
            await self._authorization.check_after_mismatch()

    @property
    def last_error(self) -> str | None:
        return self.refresher.health.last_error

    @property
    def last_error_code(self) -> str | None:
        return self.refresher.health.last_error_code

    @property
    def needs_person(self) -> bool:
        return self.refresher.health.needs_person

    @property
    def next_attempt_at(self) -> float:
        """The monotonic time of the next attempt. A changed token may make the attempt earlier."""
        return self.refresher.progress.schedule.due.monotonic

    def valid_snapshot(self, now: Instant) -> Snapshot | None:
        """Return the credentials in service, or None if they are missing or expired."""
        return self.store.valid_snapshot(now)

    def now(self) -> Instant:
        return self._clock.now()

    def state(self, now: Instant) -> admin.RoleState:
        health, snapshot = self.refresher.health, self.snapshot
        return admin.RoleState(
            role_name=self.role_name,
            is_ready=self.valid_snapshot(now) is not None,
            last_error=health.last_error,
            checked_at=health.checked_at,
            credentials_expire_at=snapshot.credentials.expires_at.timestamp() if snapshot else None,
            token_expires_at=health.token_expires_at,
            skew_seconds=health.skew_seconds,
            session_seconds=health.session_seconds,
            session_token_bytes=_token_bytes(snapshot) if snapshot else None,
            session_token_utilization=_token_utilization(snapshot) if snapshot else None,
        )


def _token_bytes(snapshot: Snapshot) -> int:
    """Return the session token's size as STS reported it, or else as measured."""
    credentials = snapshot.credentials
    return len(credentials.session_token) if credentials.token_bytes is None else credentials.token_bytes


def _token_utilization(snapshot: Snapshot) -> float | None:
    percent = snapshot.credentials.token_percent
    return None if percent is None else percent / 100


class Changes(NamedTuple):
    """The names of the roles that a new configuration added, removed or changed."""

    added: list[str]
    removed: list[str]
    changed: list[str]


ExchangeKey = tuple[tuple[str, ...], str]
"""The assumed IAM roles and the token file of a role. STS's failures depend on these, not on the role's name."""

MAX_ENDED = 100
"""
Maximum number of ended loops whose progress is kept, so that removing and adding a role does not reset the back-off.
"""


def exchange_key(role: Role) -> ExchangeKey:
    """Return the key under which a role's progress is kept."""
    return (role.role_arn, *(step.role_arn for step in role.chain)), role.token_file


Make = Callable[[Role, Snapshot | None], ServedRole]
"""The type of a function that builds a role, with earlier credentials that the role may still serve, or None."""


class ServedRoles:
    """All roles in service, and their secrets. `make` builds a role, and `run` runs the loops of all roles."""

    def __init__(self, roles: Sequence[Role], make: Make, secrets: AuthorizationFiles, log: Logger) -> None:
        self._make = make
        self._secrets = secrets
        self._log = log
        self._nursery: trio.Nursery | None = None
        self._by_name: Mapping[str, ServedRole] = {}
        self._ended: dict[ExchangeKey, Progress] = {}
        self._replaced = trio.Event()
        self.routes: Mapping[bytes, endpoint.Route] = {}
        """The roles by path. The mapping is replaced as a whole, so each reader sees a single configuration."""
        self.replace(roles)

    def __iter__(self) -> Iterator[ServedRole]:
        return iter(self._by_name.values())

    def __getitem__(self, name: str) -> ServedRole:
        return self._by_name[name]

    @property
    def main(self) -> ServedRole:
        """The role for clients that cannot choose a role: the one called `default`, or else the first."""
        return self._by_name.get(DEFAULT_ROLE) or next(iter(self))

    def replace(self, roles: Sequence[Role]) -> Changes:
        """Replace the current roles. Call `read_secrets` for the new roles first."""
        before, ended = self._by_name, self._ended_without(roles)
        after = {role.name: self._successor(role, ended) for role in roles}
        self._by_name, self._ended = after, ended
        self._replaced.set()
        self._replaced = trio.Event()
        self.routes = {served.refresher.role.path.encode(): served for served in after.values()}
        for name, served in before.items():
            if after.get(name) is not served:
                served.scope.cancel()
        for name, served in after.items():
            if self._nursery is not None and before.get(name) is not served:
                self._nursery.start_soon(self._keep, served)
        self._secrets.keep_only(secret_files(roles))
        return Changes(
            added=[name for name in after if name not in before],
            removed=[name for name in before if name not in after],
            changed=[name for name in after if name in before and after[name] is not before[name]],
        )

    async def read_secrets(self, roles: Sequence[Role]) -> None:
        """
        Create or read the secrets of these roles, except the secrets in use.

        Raises ConfigurationError if a secret cannot be used, and FileTimeoutError if a volume hangs.
        """
        await self._secrets.add(secret_files(roles))

    async def run(self) -> None:
        """Run every role's loop until cancelled."""
        try:
            async with trio.open_nursery() as self._nursery:
                self._nursery.start_soon(self._follow_secrets)
                for served in self:
                    served.scope = trio.CancelScope()  # a scope can be entered only once, and this may be a restart
                    self._nursery.start_soon(self._keep, served)
                await trio.sleep_forever()
        finally:
            self._nursery = None

    async def first_credentials(self) -> None:
        """Wait until every role has received credentials. The caller sets the deadline."""
        for served in list(self):
            while served.snapshot is None:
                await served.store.wait_for_next()

    async def first_attempts(self) -> None:
        """Wait until every role has made its first attempt. The caller sets the deadline."""
        for served in list(self):
            await served.first_attempt.wait()

    async def next_credentials(self) -> None:
        """Wait until a role has new credentials, or the roles are replaced. The caller sets the deadline."""
        # The events are collected before the tasks run, because credentials may arrive in between.
        events = [self._replaced, *(served.store.next_arrival for served in self)]
        async with trio.open_nursery() as nursery:

            async def wake_after(event: trio.Event) -> None:
                await event.wait()
                nursery.cancel_scope.cancel()

            for event in events:
                nursery.start_soon(wake_after, event)

    def _ended_without(self, roles: Sequence[Role]) -> dict[ExchangeKey, Progress]:
        """Return the progress of the newest MAX_ENDED loops that have ended, or that end when `roles` replace them."""
        ended = dict(self._ended)
        for served in self:
            if served.refresher.role not in roles:
                key = exchange_key(served.refresher.role)
                ended.pop(key, None)
                ended[key] = served.refresher.progress
        return dict(list(ended.items())[-MAX_ENDED:])

    def _successor(self, role: Role, ended: Mapping[ExchangeKey, Progress]) -> ServedRole:
        before = self._by_name.get(role.name)
        if before is not None and before.refresher.role == role:
            return before
        is_same_arn = before is not None and before.refresher.role.final_arn == role.final_arn
        served = self._make(role, before.snapshot if before is not None and is_same_arn else None)
        progress = ended.get(exchange_key(role))
        if progress is not None:
            plan = schedule.after_role_change(progress.schedule, served.now())
            served.refresher.resume(progress._replace(schedule=plan))
        return served

    async def _follow_secrets(self) -> None:
        def report(exc: Exception) -> None:
            self._log.critical("secret_check_failed", exc=exc, restart_in_seconds=RESTART_SECONDS)

        await keep_running(self._secrets.run, report)

    async def _keep(self, served: ServedRole) -> None:
        def report(exc: Exception) -> None:
            served.refresher.report_crash(exc)
            self._log.critical(
                "refresher_failed", role_name=served.role_name, exc=exc, restart_in_seconds=RESTART_SECONDS
            )

        with served.scope:
            await keep_running(served.refresher.run, report)
