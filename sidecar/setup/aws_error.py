"""Define the error for a rejected AWS call. This module does not import botocore, so `--help` needs no extra."""

from sidecar.errors import SidecarError


class AwsError(SidecarError):
    """A call that AWS rejected. `code` is the error code from AWS."""

    def __init__(self, code: str, problem: str, *, fix: str = "") -> None:
        super().__init__(problem, fix=fix)
        self.code = code
