"""
Define an error of STS: a code and a message for the client, and the full reason for the operator.

AWS deliberately returns few details to callers. The reason is for logs and commands, and never part of a response.
"""

from sidecar.errors import SidecarError


class StsRejection(SidecarError):  # noqa: N818  it is a response, not a failure of this program
    """
    An error response of STS. `str()` is AWS's message.

    `code` and `status` are AWS's (STS API reference, Errors of each action and Common Errors). `reason` is for the
    operator and contains all facts for a fix. By default it is the message.
    """

    def __init__(self, code: str, message: str, *, status: int = 400, reason: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.status = status
        self.reason = reason or message

    def __str__(self) -> str:
        return self.message


def validation_error(message: str) -> StsRejection:
    """Return STS's ValidationError with this message."""
    return StsRejection("ValidationError", message)
