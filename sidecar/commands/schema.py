"""
Print the JSON Schema of a configuration file, with which an editor checks the file while you write it.

`roles` is the file of IRSA_SIDECAR_CONFIG, and `local` is the file of `irsa-sidecar local --config`.
"""

import argparse

from sidecar.commands.generated_file import read_generated

EXAMPLE = """\
example, for editors with yaml-language-server:
  irsa-sidecar schema roles >roles.schema.json

and in the first line of the YAML file beside it:
  # yaml-language-server: $schema=roles.schema.json"""

KINDS = ("roles", "local")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("kind", metavar="KIND", choices=KINDS, help=f"one of {', '.join(KINDS)}")


def main(args: argparse.Namespace) -> int:
    print(read_generated(f"{args.kind}.schema.json"), end="")
    return 0
