"""Use aiobotocore with one session and one event loop, as an application does."""

import asyncio

from aiobotocore.session import get_session

from tests.sdk.clients.request_loop import Credentials, handle_requests

session = get_session()


async def get() -> Credentials:
    credentials = await session.get_credentials()
    if credentials is None:
        raise LookupError("Unable to locate credentials")  # aiobotocore's own clients raise this error
    frozen = await credentials.get_frozen_credentials()
    return Credentials(accessKeyId=frozen.access_key, secretAccessKey=frozen.secret_key, sessionToken=frozen.token)


async def whoami() -> object:
    async with session.create_client("sts") as client:
        return {"arn": (await client.get_caller_identity())["Arn"]}


with asyncio.Runner() as runner:
    handle_requests({"get": lambda: runner.run(get()), "whoami": lambda: runner.run(whoami())})
