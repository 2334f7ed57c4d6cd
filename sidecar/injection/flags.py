"""The flags by which a command is told what it injects, whether into a manifest or at admission."""

import argparse
import json
from collections.abc import Mapping

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
    return Settings(
        image=check_image("--image", args.image),
        region=find_region(args.region, environ),
        environment=tuple(check_variable("--env", text) for text in args.env),
        resources=check_resources("--sidecar-resources", args.sidecar_resources),
    )
