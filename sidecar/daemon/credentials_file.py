"""
The sets in service as an `~/.aws/credentials` file too, for programs that can do nothing but read one.

Rule: the file says what the endpoint would hand out now: the living set of each role, as a profile of the role's name,
and nothing else, so an expired one is taken out, and so is a role that is for some users alone, as a file does not know
who reads it. It follows what is in service and never leads: it is written in the background, in a thread since a disk
may hang, and what goes wrong is told, counted and tried again. In the end it stays: a process that is killed could not
remove it anyway, its sets live on, and the rest of the Pod may need them.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

import trio

from sidecar.clock import Clock, Instant
from sidecar.daemon.served_roles import ServedRoles
from sidecar.errors import ConfigurationError, FileTimeoutError
from sidecar.file_thread import in_thread
from sidecar.files import file_identity, read_regular_file, replace_secret_file
from sidecar.log import Logger
from sidecar.metrics import Metrics
from sidecar.refresh.refresher import REMINDER_SECONDS
from sidecar.refresh.schedule import CHECK_SECONDS
from sidecar.store import Snapshot

FIRST_ATTEMPTS_SECONDS = 15.0
"""A file that a process before this one left stays until each role has tried for a set, but no longer than this."""

_SETTING = "IRSA_SIDECAR_CREDENTIALS_FILE"

HEADER = "# irsa-sidecar replaces this file whenever credentials change.\n"
"""By its first line we know the file again, so that none of a person's is ever replaced."""


def text_of(sets: Mapping[str, Snapshot]) -> str:
    """
    The whole file (AWS SDK reference, shared config and credentials files), a profile for each name.

    No SDK reads `x_security_token_expires`, which other tools that keep such files write too.
    """
    return HEADER + "".join(_profile(name, sets[name]) for name in sorted(sets))


def _profile(name: str, snapshot: Snapshot) -> str:
    credentials = snapshot.credentials
    return (
        f"\n[{name}]\n"
        f"# {credentials.role_arn}\n"
        f"aws_access_key_id = {credentials.access_key_id}\n"
        f"aws_secret_access_key = {credentials.secret_access_key}\n"
        f"aws_session_token = {credentials.session_token}\n"
        f"x_security_token_expires = {credentials.expiration}\n"
    )


def is_ours(path: str) -> bool:
    """
    Whether a process of ours left a file there; False where there is none, or an empty one.

    Raises ConfigurationError where it holds what somebody else wrote, such as a person's own keys.
    """
    try:
        start = read_regular_file(path, len(HEADER))
    except FileNotFoundError:
        return False
    except OSError as exc:
        raise ConfigurationError(f"{_SETTING} is {path}, which cannot be read ({exc.strerror or exc}): {_FIX}") from exc
    if start is None or start not in (b"", HEADER.encode()):
        raise ConfigurationError(f"{_SETTING} is {path}, which irsa-sidecar did not write: {_FIX}")
    return bool(start)


_FIX = "name a file of its own, which is replaced as a whole, or remove this one."


class CredentialsFile:
    """Keeps the file at `path` as `roles` are served. Raises ConfigurationError if it is somebody else's."""

    def __init__(
        self,
        path: str,
        roles: ServedRoles,
        *,
        clock: Clock,
        log: Logger,
        metrics: Metrics,
        call: Callable[..., Awaitable[Any]] = in_thread,
    ) -> None:
        self._is_left = is_ours(path)
        self._path = path
        self._roles = roles
        self._clock = clock
        self._log = log.bind(path=path)
        self._metrics = metrics
        self._call = call
        self._written: str | None = None
        self._identity: tuple[int, int, int] | None = None
        self._trouble: str | None = None
        self._told_at = float("-inf")

    async def run(self) -> None:
        """Until cancelled."""
        if self._is_left:
            with trio.move_on_after(FIRST_ATTEMPTS_SECONDS):
                await self._roles.first_attempts()
        while True:
            sets = self._living()
            text = text_of(sets)
            if text != self._written or await self._is_changed():
                await self._write(text, sets)
            if text == text_of(self._living()):  # else something changed meanwhile
                with trio.move_on_after(self._pause(sets.values())):
                    await self._roles.next_set()

    def _living(self) -> dict[str, Snapshot]:
        now = self._clock.now()
        everybodys = (served for served in self._roles if served.allow_uids is None)
        return {served.role: alive for served in everybodys if (alive := served.alive(now)) is not None}

    def _pause(self, sets: Iterable[Snapshot]) -> float:
        """Seconds to the end of the first set, and no more than to the next look at the clocks and the roles."""
        now = self._clock.now()
        return max(min([CHECK_SECONDS, *(_seconds_between(now, snapshot.ends) for snapshot in sets)]), 0.0)

    async def _is_changed(self) -> bool:
        """Return whether the file is another one than we wrote, or its volume hangs, which the next write reports."""
        try:
            return bool(await self._call(self._path, file_identity, self._path) != self._identity)
        except (FileTimeoutError, OSError):
            return True

    async def _write(self, text: str, profiles: Iterable[str]) -> None:
        try:
            await self._call(self._path, replace_secret_file, self._path, text)
            self._identity = await self._call(self._path, file_identity, self._path)
        except FileTimeoutError as error:
            self._metrics.count_credentials_file(is_written=False)
            self._remember_trouble(str(error))
            return
        except Exception as exc:  # noqa: BLE001  whatever it is, it is this file's trouble alone
            self._metrics.count_credentials_file(is_written=False)
            self._remember_trouble(getattr(exc, "strerror", None) or type(exc).__name__)
            return
        self._written, self._trouble = text, None
        self._metrics.count_credentials_file(is_written=True)
        self._log.info("credentials_file_written", profiles=sorted(profiles))

    def _remember_trouble(self, trouble: str) -> None:
        """Log what changed, or what has stayed so for long."""
        now = self._clock.monotonic()
        if trouble == self._trouble and now - self._told_at < REMINDER_SECONDS:
            return
        self._trouble, self._told_at = trouble, now
        self._log.warning("credentials_file_failed", reason=trouble, retry_in_seconds=CHECK_SECONDS)


def _seconds_between(now: Instant, then: Instant) -> float:
    return min(then.wall - now.wall, then.monotonic - now.monotonic)
