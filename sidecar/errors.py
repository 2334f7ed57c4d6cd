"""
Define all errors of irsa-sidecar in one tree. Each class stands for a different next action.

    SidecarError
    ├── ConfigurationError   a person changes a setting; the process ends with exit status 2
    ├── TokenError           the token file is read again, soon
    ├── ExchangeError        STS returned no credentials; `next_step` is the daemon's next action
    ├── FileTimeoutError     a file's volume hangs; the file is read again, soon
    ├── UnusableStateError   a saved file is ignored (saved_state.py)
    └── KubernetesError      the API server rejected a request or did not respond; a person acts, or a retry succeeds

Exceptions of libraries (httpx, OSError, PyJWT) are converted to one of these classes where they are raised. Each error
has two parts for a person: the problem, which names the setting and its value, and the fix. Neither holds a secret.
"""

from enum import Enum

from sidecar.redaction import without_secrets


class NextStep(Enum):
    """The daemon's next action after a failed exchange. No action ends the daemon or changes stored credentials."""

    RETRY = "retry"
    """Retry soon, with exponential back-off and jitter. The error is probably temporary."""
    SLOW_DOWN = "slow_down"
    """Retry as for RETRY, but with longer delays. STS is throttling."""
    REREAD_TOKEN = "reread_token"  # noqa: S105  the name of a step
    """STS rejected the token. Retry at once when the token file has changed, and slowly until then."""
    WAIT_FOR_TOKEN = "wait_for_token"  # noqa: S105  the name of a step
    """Retry at once when the token file has changed, and every minute until then. The token has expired."""
    WAIT = "wait"
    """Retry slowly without a limit. A person should check the role, the provider or their propagation."""
    ASK_OPERATOR = "ask_operator"
    """Retry slowly. STS rejected our parameters, and only a changed setting can help."""


class Explanation:
    """
    A problem and its fix, for a person to read.

    Both are sentences without the final full stop. `problem` names the setting and its value. `fix` is an imperative
    sentence, or empty if a person cannot do anything.
    """

    __slots__ = ("fix", "problem")  # not a NamedTuple, because `typing` is imported after the daemon listens

    def __init__(self, problem: str, fix: str = "") -> None:
        self.problem = problem
        self.fix = fix

    def __str__(self) -> str:
        """Return the problem and the fix as sentences."""
        return sentences(self.problem, self.fix)


def sentences(*texts: str) -> str:
    """Join the texts. Each gets a full stop unless it ends with a question mark. Empty texts are skipped."""
    return " ".join(text if text.endswith((".", "?")) else f"{text}." for text in texts if text)


class SidecarError(Exception):
    """
    The root of the tree. `str(error)` is the problem and the fix, as sentences for a person.

    `problem` and `fix` are the parts of an Explanation, without the passwords of URLs. A message that continues after
    the problem uses `problem` instead of `str(error)`. `setting` is the name of the setting to change: a variable, a
    flag, an annotation or a location in a file. `setting` is None if there is not exactly one such setting.
    """

    def __init__(self, problem: str = "", *, fix: str = "", setting: str | None = None) -> None:
        self.problem = without_secrets(problem).removesuffix(".")
        self.fix = without_secrets(fix).removesuffix(".")
        self.setting = setting
        super().__init__(sentences(self.problem, self.fix))

    @property
    def explanation(self) -> Explanation:
        """The problem and the fix as one value."""
        return Explanation(self.problem, self.fix)


class ConfigurationError(SidecarError):
    """A setting that cannot be used. The problem names the setting and its value."""


class TokenError(SidecarError):
    """
    A service account token that cannot be used now.

    `reason` is a short word for logs and metrics: `missing`, `unreadable`, `not_a_file`, `empty`, `too_long`,
    `malformed` or `timeout`. `mistake` is the code of a known mistake in the content (token_mistake.py), which only a
    person can fix. `mistake` is None if the next read may succeed.
    """

    def __init__(self, reason: str, problem: str, fix: str, mistake: str | None = None) -> None:
        super().__init__(problem, fix=fix)
        self.reason = reason
        self.mistake = mistake


class ExchangeError(SidecarError):
    """
    An exchange for which STS returned no credentials.

    `code` is the error code of AWS, or one of irsa-sidecar's own codes. Without a response, `code` is `Timeout`,
    `Unreachable`, `Tls` or `Proxy`. If the response has no code, `code` is `Http` and the status. If the credentials
    are unusable, `code` is `MalformedReply`. `status` is the HTTP status, or None. `retry_after_seconds` is the pause
    that STS requested. `step` is the failed step of the role's chain, from 1, or 0 for the exchange of the token.
    """

    def __init__(
        self,
        code: str,
        message: str,
        next_step: NextStep,
        *,
        status: int | None = None,
        retry_after_seconds: float | None = None,
        step: int = 0,
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = without_secrets(message)
        self.next_step = next_step
        self.status = status
        self.retry_after_seconds = retry_after_seconds
        self.step = step

    def in_step(self, step: int, role_arn: str) -> "ExchangeError":
        """Return the same error for this step of a chain."""
        return ExchangeError(
            self.code,
            f"step {step} of the chain, {role_arn}: {self.message}",
            self.next_step,
            status=self.status,
            retry_after_seconds=self.retry_after_seconds,
            step=step,
        )


class FileTimeoutError(SidecarError):
    """An operation on the file at `path` that did not return in time."""

    def __init__(self, path: str, deadline_seconds: float) -> None:
        super().__init__(
            f"{path} could not be used within {deadline_seconds:g} s: its volume hangs",
            fix="Check the driver that mounts the volume (NFS, FUSE or CSI)",
        )


class KubernetesError(SidecarError):
    """
    A request that failed. `status` is the HTTP status of the API server's rejection, or None without a rejection.

    `reason` is the API server's reason, or empty.
    """

    def __init__(self, problem: str, *, fix: str = "", status: int | None = None, reason: str = "") -> None:
        super().__init__(problem, fix=fix)
        self.status = status
        self.reason = without_secrets(reason)
