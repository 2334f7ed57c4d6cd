"""Define the error of a rejected AWS call, without botocore, so that `--help` needs no extra."""

from sidecar.errors import SidecarError


class AwsError(SidecarError):
    """A call that AWS rejected. `code` is AWS's own error code."""

    def __init__(self, code: str, problem: str, *, fix: str = "") -> None:
        super().__init__(problem, fix=fix)
        self.code = code
