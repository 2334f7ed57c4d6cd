"""
Start the three local services, issuer, token volume and STS, in the order of their dependencies.

First both ports are bound, because tokens and trust policies contain the issuer's URL. Then the trust policies are
read, so that a mistake stops the start. Then all services run until they are cancelled.
"""

import random
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import trio
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from sidecar.background import keep_running
from sidecar.clock import Clock
from sidecar.errors import ConfigurationError
from sidecar.local.config import ISSUER_PLACEHOLDER, LocalConfig, RoleSettings
from sidecar.local.effects import Machinery
from sidecar.local.events import Emit
from sidecar.local.issuer import Issuer, generate_key, rotate_keys
from sidecar.local.kubelet import MAX_JITTER_SECONDS, TokenVolume, keep_fresh, renew
from sidecar.local.listening import LOOPBACK, listen, url_of
from sidecar.local.pod_tokens import PodTokens
from sidecar.local.policy_lines import with_lines
from sidecar.local.provider_keys import FileKeys, IssuerKeys, KeySource
from sidecar.local.roles import IamRole
from sidecar.local.service_account import PodIdentity, TokenRequest
from sidecar.local.signing_keys import KeySet, signing_key
from sidecar.local.sts import Account, Sts
from sidecar.local.trust_policy import default_policy, parse_policy
from sidecar.oidc.verification import Provider
from sidecar.serving.http_message import Request, Response
from sidecar.serving.http_server import Limits, Server
from sidecar.strict_yaml import reading

HTTP_LIMITS = Limits(max_head_bytes=64 * 1024, max_body_bytes=256 * 1024, respond_seconds=30.0, keeps_connections=False)
"""
HTTP limits of the issuer and of STS.

The target of a presigned GET contains a complete request with the session token. The bodies of STS requests have some
tens of KiB at most, because a token has at most 20,000 characters and a policy 2,048. A response may wait for a slow
issuer's keys, and SDKs time out after 60 s.
"""


@dataclass(frozen=True, slots=True)
class LocalServices:
    """
    The URLs and settings of the running services. `role_arn` is the ARN of the first role.

    `machinery` contains the parts that the controls of the page change.
    """

    issuer_url: str
    sts_url: str
    token_file: Path
    role_arn: str
    region: str
    audience: str
    machinery: Machinery = field(repr=False)


async def serve_local(
    config: LocalConfig,
    directory: Path,
    *,
    emit: Emit,
    clock: Clock,
    generate: Callable[[], RSAPrivateKey] = generate_key,
    task_status: trio.TaskStatus[LocalServices] = trio.TASK_STATUS_IGNORED,
) -> None:
    """
    Run the issuer, the token volume in `directory`, and STS until cancelled.

    The task reports LocalServices when the first token is written and both ports respond.

    Raises ConfigurationError if a port, directory, policy or key file is unusable.
    """
    with (
        await listen("issuer_port", LOOPBACK, config.issuer_port) as issuer_listener,
        await listen("sts_port", config.sts_host, config.sts_port) as sts_listener,
    ):
        from_issuer, from_sts, from_kubelet = (partial(emit, component=name) for name in ("issuer", "STS", "kubelet"))
        issuer = await _make_issuer(config, url_of(issuer_listener), clock, generate)
        sts = Sts(_account(config, issuer, clock, from_issuer), clock=clock, emit=from_sts)
        _emit_unevaluated_statements(sts.account, from_sts)
        machinery = Machinery(
            issuer=issuer,
            generate=generate,
            tokens=PodTokens(
                issuer, _pod_identity(config), TokenRequest(config.audience, config.token_lifetime_seconds)
            ),
            volume=TokenVolume(directory),
            sts=sts,
            clock=clock,
            emit=emit,
        )
        kubelet = _first_token(machinery, clock=clock, emit=from_kubelet)
        rotate = partial(rotate_keys, issuer, config.key_rotation_seconds, emit=from_issuer, generate=generate)
        tasks: dict[str, tuple[Emit, Callable[[], Awaitable[None]]]] = {
            "issuer": (from_issuer, _http_task(issuer.respond, issuer_listener, from_issuer)),
            "sts": (from_sts, _http_task(sts.respond, sts_listener, from_sts)),
            "kubelet": (from_kubelet, kubelet),
            "key_rotation": (from_issuer, rotate),
        }
        async with trio.open_nursery() as nursery:
            for name, (task_emit, task) in tasks.items():
                nursery.start_soon(keep_running, task, partial(_emit_task_failure, task_emit, name))
            task_status.started(_services(config, machinery, url_of(sts_listener)))


def _http_task(
    respond: Callable[[Request], Awaitable[Response]], listener: socket.socket, emit: Emit
) -> Callable[[], Awaitable[None]]:
    server = Server(respond, partial(_emit_request_failure, emit), limits=HTTP_LIMITS)
    return partial(server.serve, [listener])


def _services(config: LocalConfig, machinery: Machinery, sts_url: str) -> LocalServices:
    return LocalServices(
        issuer_url=machinery.issuer.url,
        sts_url=sts_url,
        token_file=machinery.volume.token_file,
        role_arn=next(iter(machinery.sts.account.roles)),
        region=config.region,
        audience=config.audience,
        machinery=machinery,
    )


async def _make_issuer(
    config: LocalConfig, address: str, clock: Clock, generate: Callable[[], RSAPrivateKey]
) -> Issuer:
    key = signing_key(await trio.to_thread.run_sync(generate))
    return Issuer(config.issuer_url or address, KeySet((key,)), clock=clock, address=address)


def _first_token(machinery: Machinery, *, clock: Clock, emit: Emit) -> Callable[[], Awaitable[None]]:
    """
    Write the first token, and return the task that renews it.

    Raises ConfigurationError if the token volume cannot be written.
    """
    issue, volume = machinery.tokens.issue, machinery.volume
    try:
        token = renew(volume, issue, clock.wall(), emit)
    except OSError as exc:
        raise ConfigurationError(
            f"the token volume {volume.directory} cannot be written ({exc})",
            fix="Use a directory that you can write",
        ) from exc
    jitter = partial(random.uniform, 0, MAX_JITTER_SECONDS)
    return partial(keep_fresh, volume, token, issue, clock=clock, jitter=jitter, emit=emit)


def _account(config: LocalConfig, issuer: Issuer, clock: Clock, emit: Emit) -> Account:
    own = Provider(issuer.url, (config.audience,), config.account_id)
    source = partial(_source, clock=clock, emit=emit)
    providers, sources = {own.issuer: own}, {own.issuer: source(issuer.url, issuer.address, None)}
    for settings in config.providers:
        url = settings.issuer
        providers[url] = Provider(url, settings.audiences, config.account_id)
        sources[url] = source(url, url, settings.jwks_file)
    roles = {role.arn: role for role in (_role(settings, config, own) for settings in config.roles)}
    if len(roles) != len(config.roles):
        problem = f"roles contains one role twice: {', '.join(roles)}"
        raise ConfigurationError(problem, fix="Remove one of them", setting="roles")
    return Account(config.region, roles, providers, sources)


def _emit_unevaluated_statements(account: Account, emit: Emit) -> None:
    for role in account.roles.values():
        for reason in role.trust_policy.unknown:
            emit(
                "trust_statement_not_evaluated", role_arn=role.arn, reason=f"{reason}. It allows nothing, and may deny"
            )


def _source(issuer: str, address: str, jwks_file: Path | None, *, clock: Clock, emit: Emit) -> KeySource:
    return FileKeys(jwks_file) if jwks_file else IssuerKeys(issuer, address, clock.monotonic, emit)


def _role(settings: RoleSettings, config: LocalConfig, own: Provider) -> IamRole:
    arn = settings.arn or f"arn:aws:iam::{config.account_id}:role/{settings.name}"
    subject, audience = _pod_identity(config).subject, config.audience
    document: Any = settings.trust_policy or default_policy(own.arn, own.key, subject=subject, audience=audience)
    name = f"the trust policy of {arn}"
    with reading(name):
        policy = parse_policy(_with_issuer(document, own.key, name), name)
        lines = {
            (index, text, key.replace(ISSUER_PLACEHOLDER, own.key)): line
            for (index, text, key), line in settings.condition_lines.items()
        }
        policy = with_lines(policy, lines)
    return IamRole(arn, policy, settings.max_session_duration)


def _with_issuer(value: Any, key: str, name: str) -> Any:
    """
    Return the document with the issuer instead of the placeholder in all strings and keys.

    `name` is the policy's name in messages.

    Raises ConfigurationError if two keys of one mapping become equal.
    """
    if isinstance(value, dict):
        replaced = {_with_issuer(member, key, name): _with_issuer(item, key, name) for member, item in value.items()}
        if len(replaced) < len(value):
            raise ConfigurationError(
                f"{name}: two keys are equal after {ISSUER_PLACEHOLDER} is replaced by the issuer",
                fix="Remove one of the two keys",
                setting=name,
            )
        return replaced
    if isinstance(value, list):
        return [_with_issuer(item, key, name) for item in value]
    return value.replace(ISSUER_PLACEHOLDER, key) if isinstance(value, str) else value


def _pod_identity(config: LocalConfig) -> PodIdentity:
    return PodIdentity(config.namespace, config.service_account, config.pod, config.node)


def _emit_task_failure(emit: Emit, name: str, exc: Exception) -> None:
    emit("background_task_failed", task=name, exception=type(exc).__name__)


def _emit_request_failure(emit: Emit, exc: Exception) -> None:
    emit("request_failed", exception=type(exc).__name__)
