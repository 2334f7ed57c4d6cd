"""Describe the exit statuses of commands that differ from the common statuses."""

from collections.abc import Mapping

COMMON = (
    ("0", "The command succeeded, or SIGTERM or SIGINT stopped a command that serves."),
    ("1", "Any error except wrong usage or a wrong configuration, or Ctrl-C stopped any other command."),
    ("2", "The usage or the configuration is wrong. The message shows the setting, its value and the fix."),
)
"""The exit statuses that all commands have in common."""

_OF_A_COMMAND = (
    ("the status of CMD", "CMD ran. If a signal ended it, the status is 128 plus the number of the signal."),
    ("128 plus the number of the signal", "A signal ended `irsa-sidecar` before CMD ran."),
)

_OF_A_STEP = (
    ("0", "The step succeeded, or nothing has to change."),
    ("1", "Any error except wrong usage. With --exit-code, wrong usage has this status too."),
    ("2", "With --dry-run and --exit-code: something would change. Without --exit-code: wrong usage."),
)

EXIT_STATUS: Mapping[str, tuple[tuple[str, str], ...]] = {
    "exec": _OF_A_COMMAND,
    "local": (*_OF_A_COMMAND, ("0", "Without CMD, a signal ended the services.")),
    "doctor": (
        ("0", "No check failed. Warnings are printed."),
        ("1", "A check failed, or with --strict there is a warning."),
        ("2", "The usage is wrong."),
    ),
    "status": (
        ("0", "Every Pod has valid credentials for all roles. Pods that are terminating do not count."),
        ("1", "A Pod has no valid credentials or does not respond, no Pod has a running sidecar, or any other error."),
        (
            "with --watch",
            "After Ctrl-C, the status of the last report, or 1 if it is old. Otherwise Ctrl-C exits with 1.",
        ),
    ),
    "probe": (("0", "The daemon is ready."), ("1", "The daemon is not ready. stderr has the reason.")),
    "token": (
        ("0", "The token was printed, and with --verify its signature is valid."),
        ("1", "With --verify, STS would reject the token, or the keys of the issuer could not be fetched."),
    ),
    "setup oidc-provider": _OF_A_STEP,
    "setup role": _OF_A_STEP,
    "audit": (
        ("0", "No finding has the severity of --fail-on or a higher severity."),
        ("1", "A finding has this severity or a higher severity."),
    ),
    "who": (("0", "A session was found."), ("1", "No session was found.")),
    "setup cluster": (
        _OF_A_STEP[0],
        ("1", f"{_OF_A_STEP[1][1]} If a role cannot be changed, the command changes the other roles and exits with 1."),
        _OF_A_STEP[2],
    ),
    "setup service-account": _OF_A_STEP,
    "setup pod": _OF_A_STEP,
    "setup issuer-documents": (
        _OF_A_STEP[0],
        ("1", f"{_OF_A_STEP[1][1]} --check also exits with 1 if the published keys differ from the API server's keys."),
        _OF_A_STEP[2],
    ),
    "setup migrate": (
        ("0", "The changes of this phase are made, or nothing has to change, or --dry-run showed the plan."),
        (
            "1",
            "Any other error, for example if a Pod still uses the old source, or if somebody changed a role meanwhile.",
        ),
        ("2", "The usage is wrong, or the record belongs to another migration."),
    ),
    "setup rotate": (
        ("0", "Nothing remains, or --step made a step."),
        ("1", "Any error, or STS rejects tokens because the issuer's URL does not serve their key."),
        ("2", "The usage is wrong."),
        (
            "3",
            "You have to wait, or to change an API server. With --check, the status is also 3 if a step is possible.",
        ),
    ),
}
"""The exit statuses that have another meaning for some commands. Every other status has the common meaning."""
