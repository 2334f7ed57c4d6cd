"""The error that AWS answered with, apart from botocore, so that `--help` needs no extra."""

from sidecar.errors import SidecarError


class AwsError(SidecarError):
    """AWS refused a call. `code` is its own error code."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
