"""Exchange the token once, for a command that uses no daemon."""

from collections.abc import Mapping

from sidecar.config.settings import read_role, role_defaults
from sidecar.credentials import Credentials
from sidecar.errors import ExchangeError, SidecarError
from sidecar.file_thread import in_thread
from sidecar.sts.client import open_client
from sidecar.sts.errors import explained
from sidecar.sts.request import request_for
from sidecar.sts.settings import read_sts_settings
from sidecar.token import read_token

DEFAULT_DURATION_SECONDS = 3600
"""Duration of a command's own exchange: STS's default, which every role allows."""


async def exchange_once(environ: Mapping[str, str]) -> Credentials:
    """
    Return the credentials of one exchange.

    Raises SidecarError with the next step if a setting is invalid, the token is unreadable or the exchange fails.
    """
    from sidecar.daemon.setting_checks import all_reported  # noqa: PLC0415  for one exchange of a command

    with all_reported(environ):
        role = read_role(environ, role_defaults(environ))
        client = open_client(read_sts_settings(environ))
    async with client:
        token = await in_thread(role.token_file, read_token, role.token_file)  # the volume may hang
        try:
            reply = await client.exchange(request_for(role, token, DEFAULT_DURATION_SECONDS), token)
        except ExchangeError as error:
            raise SidecarError(explained(error)) from error
    return reply.credentials
