"""Read the flags for the settings of injection, for `setup pod` and the webhook."""

import argparse
import json
from collections.abc import Iterable, Mapping

from sidecar.errors import ConfigurationError
from sidecar.injection.resources import RESOURCES, check_resources
from sidecar.injection.settings import Settings, check_image, check_variable, find_region


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--image", required=True, metavar="REF", help="the sidecar's image")
    parser.add_argument(
        "--region", metavar="REGION", help="AWS region of STS, and the default region of the containers [AWS_REGION]"
    )
    parser.add_argument(
        "--env",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="another variable for the sidecar; can be repeated",
    )
    parser.add_argument(
        "--sidecar-resources",
        default=json.dumps(RESOURCES),
        metavar="JSON",
        help="the sidecar's resource requests and limits, as in a container [%(default)s]",
    )


def read_settings(args: argparse.Namespace, environ: Mapping[str, str]) -> Settings:
    """
    Return the settings of these flags.

    Raises ConfigurationError if a flag is invalid.
    """
    settings = Settings(
        image=check_image("--image", args.image),
        region=find_region(args.region, environ),
        environment=tuple(check_variable("--env", text) for text in args.env),
        resources=check_resources("--sidecar-resources", args.sidecar_resources),
    )
    if settings.environment:
        check_environment("--env", settings.region, settings.environment)
    return settings


def check_environment(setting: str, region: str, variables: Iterable[tuple[str, str]]) -> None:
    """
    Read the variables as the sidecar does.

    Raises ConfigurationError if a sidecar could not start with them.

    An unknown variable with our prefix is rejected too, because an operator wrote it and meant a setting. `run` ignores
    such a variable, because Kubernetes creates some automatically.
    """
    from sidecar.config.settings import read_settings as read_settings_of_run  # noqa: PLC0415  only for flags that need it
    from sidecar.config.settings import unknown_variables  # noqa: PLC0415
    from sidecar.sts.request import endpoint_of, fallbacks_of  # noqa: PLC0415

    environ = {"AWS_REGION": region, **dict(variables)}
    try:
        config, _ = read_settings_of_run(environ, {})
        endpoint_of(config.sts)
        fallbacks_of(config.sts)
    except ConfigurationError as error:
        raise ConfigurationError(f"{setting}: {error.problem}", fix=error.fix, setting=setting) from error
    for unknown in unknown_variables(environ):
        raise ConfigurationError(f"{setting}: {unknown.problem}", fix=unknown.fix, setting=setting)
