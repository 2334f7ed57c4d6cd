"""
How STS says no: a code and a text for the client, and the reason in full for whoever runs it.

AWS tells a caller little on purpose. The reason never leaves this process except through `tell`.
"""

from sidecar.errors import SidecarError


class StsRefusal(SidecarError):  # noqa: N818  (an answer, and no fault of anything here)
    """
    An answer of STS that is an error. `str()` is AWS's text.

    `code` and `status` are AWS's (STS API reference, each action's Errors and Common Errors); `why` says what a
    person needs to know to mend it, and defaults to the text.
    """

    def __init__(self, code: str, message: str, *, status: int = 400, why: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.status = status
        self.why = why or message


def validation_error(message: str) -> StsRefusal:
    return StsRefusal("ValidationError", message)
