"""Run `python -m release build` and `python -m release check`."""

import argparse
from pathlib import Path

from release.build import PARTS, build_release

REPOSITORY = Path(__file__).parents[1]


def main() -> None:
    arguments = _parser().parse_args()
    build_release(REPOSITORY, arguments.output, arguments.parts.split(","))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m release", description="Build and verify a release.")
    commands = parser.add_subparsers(required=True)
    build = commands.add_parser("build", help="build the commit that is checked out")
    build.add_argument("--output", type=Path, default=Path("dist"), help="folder, which is emptied first (dist)")
    build.add_argument("--parts", default=",".join(PARTS), help=f"parts to build ({','.join(PARTS)})")
    return parser


if __name__ == "__main__":
    main()
