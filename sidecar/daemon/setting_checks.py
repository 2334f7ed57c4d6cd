"""
Report all missing and wrong settings at once, instead of one error per failed start.

Rule: this module reads settings only if the usual reading (config/settings.py) has failed. It then reads each setting
separately and collects the errors.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from sidecar.config import settings as config
from sidecar.errors import ConfigurationError
from sidecar.role import RoleDefaults
from sidecar.sts.settings import read_boolean, read_endpoint_url, read_sts_settings

Flags = Mapping[str, str | None]


@contextmanager
def all_reported(
    environ: Mapping[str, str], flags: Flags | None = None, *, allow_non_loopback: bool = False
) -> Iterator[None]:
    """
    Turn a ConfigurationError of the block into one that lists every problem of the settings.

    `flags` are the flags of `run`, by field. None means that only AWS's own variables are read.
    """
    try:
        yield
    except ConfigurationError as error:
        raise every_problem(error, environ, flags, allow_non_loopback=allow_non_loopback) from error


def every_problem(
    error: ConfigurationError, environ: Mapping[str, str], flags: Flags | None, *, allow_non_loopback: bool = False
) -> ConfigurationError:
    """Return an error that lists `error` and every other problem of the settings, each once."""
    found = [*_problems(_readers(environ, flags, allow_non_loopback=allow_non_loopback))]
    messages = list(dict.fromkeys(found if str(error) in found else [str(error), *found]))
    if len(messages) == 1:
        return error
    return ConfigurationError("\n".join([f"{len(messages)} settings are missing or wrong:", *messages]))


def _problems(readers: Iterator[Callable[[], object]]) -> Iterator[str]:
    """
    Yield the message of each reader that fails.

    A reader with an unexpected exception is skipped, because the first error must be reported in any case.
    """
    for read in readers:
        try:
            read()
        except ConfigurationError as error:
            yield str(error)
        except Exception:  # noqa: BLE001, S112  see above
            continue


def _readers(
    environ: Mapping[str, str], flags: Flags | None, *, allow_non_loopback: bool
) -> Iterator[Callable[[], object]]:
    """Yield a reader for each setting, in the order of use: role, token, STS, then the daemon's own settings."""
    config_file = None if flags is None else flags.get("config_file") or environ.get(f"{config.PREFIX}CONFIG")
    if not config_file:
        yield lambda: config.read_role_arn(environ)
        yield lambda: config.read_token_file(environ)
    yield lambda: config.role_defaults({**environ, "AWS_WEB_IDENTITY_TOKEN_FILE": ""})
    yield from _readers_of_sts(environ)
    if flags is not None:
        for setting in config.SETTINGS:
            yield lambda setting=setting: config.read_setting(setting, environ, flags)  # type: ignore[misc]
        yield lambda: config.read_settings(environ, flags, allow_non_loopback=allow_non_loopback)
        if not allow_non_loopback:
            for field in ("listen", "imds_listen"):
                yield lambda field=field: _check_loopback(field, environ, flags)  # type: ignore[misc]
        yield lambda: _check_credentials_file(_read("credentials_file", environ, flags))
        yield lambda: _check_state_dir(environ, flags)
    if config_file:
        yield lambda: _read_roles_file(config_file, environ)


def _read(field: str, environ: Mapping[str, str], flags: Flags) -> Any:
    return config.read_setting(next(found for found in config.SETTINGS if found.field == field), environ, flags)


def _check_loopback(field: str, environ: Mapping[str, str], flags: Flags) -> None:
    config.check_loopback(field.upper(), _read(field, environ, flags))


def _check_credentials_file(path: str | None) -> None:
    if path is not None:
        from sidecar.daemon.credentials_file import is_ours  # noqa: PLC0415  only after an error

        is_ours(path)


def _check_state_dir(environ: Mapping[str, str], flags: Flags) -> None:
    path = _read("state_dir", environ, flags)
    if path is not None:
        from sidecar.daemon.state_directory import open_directory  # noqa: PLC0415  only after an error

        open_directory(path, allow_disk=_read("state_allow_disk", environ, flags))


def _read_roles_file(path: str, environ: Mapping[str, str]) -> None:
    """Read the roles separately, so that another wrong setting does not hide an error in the file."""
    from sidecar.config.roles_file import read_roles_file  # noqa: PLC0415  only after an error

    read_roles_file(path, RoleDefaults(token_file=environ.get("AWS_WEB_IDENTITY_TOKEN_FILE") or None))


def _readers_of_sts(environ: Mapping[str, str]) -> Iterator[Callable[[], object]]:
    from sidecar.authorities import CA_BUNDLE, trust_in  # noqa: PLC0415  only after an error
    from sidecar.sts.request import endpoint_of  # noqa: PLC0415  only after an error

    for name in ("AWS_USE_FIPS_ENDPOINT", "AWS_USE_DUALSTACK_ENDPOINT"):
        yield lambda name=name: read_boolean(environ, name)  # type: ignore[misc]
    yield lambda: read_endpoint_url(environ)
    # Without the AWS_USE_ variables, of which a wrong one would hide an error in AWS_REGION.
    clean = {name: value for name, value in environ.items() if not name.startswith("AWS_USE_")}
    yield lambda: endpoint_of(read_sts_settings(clean))
    yield lambda: endpoint_of(read_sts_settings(environ))
    if path := environ.get(CA_BUNDLE):
        yield lambda: trust_in(path)
    yield lambda: _check_proxy(environ)


def _check_proxy(environ: Mapping[str, str]) -> None:
    """
    Check the proxy of STS.

    The proxy is the same in every region, so a wrong endpoint or region does not hide an error of the proxy.

    Raises ConfigurationError if the proxy is invalid.
    """
    from sidecar.outbound import proxy_for  # noqa: PLC0415  only after an error
    from sidecar.sts.endpoint import sts_url  # noqa: PLC0415  only after an error
    from sidecar.sts.request import endpoint_of  # noqa: PLC0415  only after an error

    try:
        url = endpoint_of(read_sts_settings(environ))
    except ConfigurationError:
        url = sts_url("us-east-1")
    proxy_for(url)
