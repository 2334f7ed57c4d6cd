"""The flags by which a command is told what it injects, whether into a manifest or at admission."""

import argparse
import json
from collections.abc import Iterable, Mapping

from sidecar.errors import ConfigurationError
from sidecar.injection.resources import RESOURCES, check_resources
from sidecar.injection.settings import Settings, check_image, check_variable, find_region


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--image", required=True, metavar="REF", help="the sidecar's image")
    parser.add_argument("--region", metavar="REGION", help="whose STS to ask, and the containers' default [AWS_REGION]")
    parser.add_argument(
        "--env",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a variable more for the sidecar; may come again",
    )
    parser.add_argument(
        "--sidecar-resources",
        default=json.dumps(RESOURCES),
        metavar="JSON",
        help="what it asks for and may use, as a container has it [%(default)s]",
    )


def read_settings(args: argparse.Namespace, environ: Mapping[str, str]) -> Settings:
    """What these flags say of every Pod. Raises ConfigurationError."""
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
    Read the variables as the sidecar will. Raises ConfigurationError for those with which none would start.

    A name of ours that there is not is refused too: `run` passes it over, as Kubernetes makes such by itself, but
    nobody gives one here without meaning a setting.
    """
    from sidecar.config.settings import read_settings as read_settings_of_run  # noqa: PLC0415  for those who give some
    from sidecar.config.settings import unknown_variables  # noqa: PLC0415
    from sidecar.sts.request import endpoint_of, fallbacks_of  # noqa: PLC0415

    environ = {"AWS_REGION": region, **dict(variables)}
    try:
        config, _ = read_settings_of_run(environ, {})
        endpoint_of(config.sts)
        fallbacks_of(config.sts)
    except ConfigurationError as error:
        raise ConfigurationError(f"{setting}: {error}") from error
    for sentence in unknown_variables(environ):
        raise ConfigurationError(f"{setting}: {sentence.removesuffix('.')}: correct it, or leave it out.")
