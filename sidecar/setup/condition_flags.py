"""Read the flags for the conditions of a trust policy."""

import argparse

from sidecar.errors import ConfigurationError
from sidecar.setup.chain_sides import is_chain_only
from sidecar.setup.request_conditions import KINDS, RequestConditions, Values, parse_values

EXTERNAL_ID = "external-id"
"""The name in --drop-condition for the external id of a chain."""

_HELP = {
    "session-name": ("PATTERN", "accept only this role session name, with * and ? as wildcards; can be repeated"),
    "source-vpce": ("ID", "accept only requests through this VPC endpoint for STS; can be repeated"),
    "source-vpc": ("ID", "accept only requests through a VPC endpoint in this VPC; can be repeated"),
}
"""The value's name and the help of each flag."""


def add_condition_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "conditions", "The conditions restrict the requests in which a token is accepted."
    )
    for kind in KINDS:
        metavar, text = _HELP[kind.flag]
        group.add_argument(f"--{kind.flag}", metavar=metavar, action="append", help=text)
    names = [*_HELP, EXTERNAL_ID]
    group.add_argument(
        "--drop-condition",
        metavar="NAME",
        action="append",
        default=[],
        choices=names,
        help=f"remove a condition: {', '.join(names)}; can be repeated",
    )


def check_condition_arguments(args: argparse.Namespace) -> None:
    """Raise ConfigurationError if a value is invalid, or if a condition does not fit the other flags."""
    conditions = find_conditions(args)
    for kind, values in zip(KINDS, conditions, strict=True):
        flag = f"--{kind.flag}"
        if values and kind.flag in args.drop_condition:
            raise ConfigurationError(
                f"{flag} is set, and --drop-condition removes this condition", fix="Use one of them", setting=flag
            )
        if values is not None and (args.remove or is_chain_only(args)):
            reason = "--remove keeps the conditions" if args.remove else "--service-account is not"
            raise ConfigurationError(
                f"{flag} or --drop-condition {kind.flag} is set, but {reason}",
                fix="Name the service accounts, without --remove",
                setting=flag,
            )
    _check_external_id(args)


def _check_external_id(args: argparse.Namespace) -> None:
    if EXTERNAL_ID not in args.drop_condition:
        return
    if args.external_id is not None:
        raise ConfigurationError(
            "--external-id is set, and --drop-condition removes this condition",
            fix="Use one of them",
            setting="--external-id",
        )
    if args.chain_to is None:
        raise ConfigurationError(
            "--drop-condition is external-id, but --chain-to is not set",
            fix="Set --chain-to",
            setting="--drop-condition",
        )


def find_conditions(args: argparse.Namespace) -> RequestConditions:
    """Return the conditions in the flags. None keeps the current values, and an empty tuple removes them."""
    found: list[Values | None] = []
    for kind in KINDS:
        texts = getattr(args, kind.flag.replace("-", "_"))
        is_dropped = kind.flag in args.drop_condition
        found.append(parse_values(kind, texts) if texts else () if is_dropped else None)
    return RequestConditions(*found)
