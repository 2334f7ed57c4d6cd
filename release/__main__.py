"""Run the commands of `python -m release`: build, parts, check, ready and publish."""

import argparse
import os
import sys
from pathlib import Path

from release.build import PARTS, build_parts
from release.check import RejectedError, Release, verify, version_of
from release.go_programs import COSIGN, CRANE, HELM_4, built
from release.images import ARCHITECTURES, Engine, base_in
from release.keys import chart_public_key, cosign_key, cosign_public_key, create_trial_keys
from release.publish import Registry, publish
from release.ready import check_ready
from release.sign import sign_release
from release.signing import Signer, trust_key, trust_workflow
from release.source import URL, read_source
from release.use import use_images, use_package

REPOSITORY = Path(__file__).parents[1]

BASE_HELP = "base image, with {arch} for a name that contains the architecture (ARG BASE of the Dockerfile)"
ARCHITECTURES_HELP = "architectures of the images; a trial release may have one (amd64,arm64)"
KEYS_HELP = "folder with the keys that sign; a missing folder is created with trial keys (.release-keys)"
KEYLESS_HELP = "sign with the identity of the workflow instead of a key; the chart still needs chart.key in the folder"

TRUST_HELP = "folder with the keys to trust: cosign.pub, and chart.pub for Helm (.release-keys)"

GITHUB = "https://token.actions.githubusercontent.com"
"""Issuer of the identities of GitHub's workflows."""

LOCAL_BUILDER = f"{URL}/blob/main/docs/verify.md#a-release-that-you-built"
"""Builder of a release that no workflow built."""


def build(arguments: argparse.Namespace) -> None:
    cosign = built(COSIGN)
    if not arguments.keys.exists():
        create_trial_keys(cosign, arguments.keys)
    source = build_parts(REPOSITORY, arguments.output, _engine(arguments))
    signer = Signer(cosign, None if arguments.keyless else cosign_key(arguments.keys))
    sign_release(source, arguments.output, signer, arguments.keys, arguments.builder)


def parts(arguments: argparse.Namespace) -> None:
    build_parts(REPOSITORY, arguments.output, _engine(arguments), arguments.parts)


def check(arguments: argparse.Namespace) -> None:
    cosign, folder = built(COSIGN), arguments.folder
    verifier = trust_key(cosign, cosign_public_key(arguments.keys))
    if arguments.identity:
        verifier = trust_workflow(cosign, arguments.identity, arguments.issuer)
    version, architectures = version_of(folder), tuple(arguments.architectures.split(","))
    release = Release(folder, version, verifier, built(HELM_4), chart_public_key(arguments.keys), architectures)
    try:
        commit = verify(release)
    except RejectedError as error:
        raise SystemExit(f"release: error: {error}.") from error
    sys.stdout.write(f"release: version {version} was built from commit {commit}, and every file is signed\n")
    if not arguments.files_only:
        use_package(folder, version)
        use_images(folder, version, built(CRANE), arguments.engine)


def ready(arguments: argparse.Namespace) -> None:
    check_ready(REPOSITORY, arguments.tag, read_source(REPOSITORY).version)


def push(arguments: argparse.Namespace) -> None:
    registry = Registry(arguments.registry, built(CRANE), built(HELM_4), arguments.plain_http)
    signer = Signer(built(COSIGN), None if arguments.keyless else cosign_key(arguments.keys))
    references = publish(arguments.folder, version_of(arguments.folder), registry, signer)
    sys.stdout.writelines(f"{reference}\n" for reference in references)


def _engine(arguments: argparse.Namespace) -> Engine:
    return Engine(arguments.engine, arguments.base, tuple(arguments.architectures.split(",")), arguments.fresh)


def _dockerfile_base() -> str:
    return base_in((REPOSITORY / "Dockerfile").read_text())


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m release", description="Build and verify a release.")
    commands = parser.add_subparsers(required=True)
    _add_build(commands.add_parser("build", help="build the commit that is checked out"))
    _add_parts(commands.add_parser("parts", help="build some parts, without signatures"))
    _add_check(commands.add_parser("check", help="verify a release, and use it"))
    _add_ready(commands.add_parser("ready", help="check that the commit can be released"))
    _add_push(commands.add_parser("publish", help="push images and chart to a registry, and sign them there"))
    arguments = parser.parse_args()
    arguments.run(arguments)


def _add_build(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=build)
    _add_engine(parser)
    parser.add_argument("--keys", type=Path, default=Path(".release-keys"), help=KEYS_HELP)
    parser.add_argument("--keyless", action="store_true", help=KEYLESS_HELP)
    parser.add_argument("--builder", default=LOCAL_BUILDER, help="URI of the workflow that builds")


def _add_parts(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=parts)
    _add_engine(parser)
    parser.add_argument("parts", nargs="*", choices=list(PARTS), default=list(PARTS), help="parts to build (all)")


def _add_engine(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", type=Path, default=Path("dist"), help="folder, which is emptied first (dist)")
    parser.add_argument("--engine", default=os.environ.get("ENGINE", "podman"), help="docker or podman (podman)")
    parser.add_argument("--base", default=os.environ.get("BASE") or _dockerfile_base(), help=BASE_HELP)
    parser.add_argument("--architectures", default=",".join(ARCHITECTURES), help=ARCHITECTURES_HELP)
    parser.add_argument("--fresh", action="store_true", help="run every step of the images again")


def _add_check(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=check)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("dist"), help="folder with the release (dist)")
    parser.add_argument("--engine", default=os.environ.get("ENGINE", "podman"), help="docker or podman (podman)")
    parser.add_argument("--architectures", default=",".join(ARCHITECTURES), help=ARCHITECTURES_HELP)
    parser.add_argument("--keys", type=Path, default=Path(".release-keys"), help=TRUST_HELP)
    parser.add_argument("--identity", help="URL of the workflow whose signatures to trust, instead of cosign.pub")
    parser.add_argument("--issuer", default=GITHUB, help=f"issuer of the identity ({GITHUB})")
    parser.add_argument("--files-only", action="store_true", help="verify the files, and install nothing")


def _add_ready(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=ready)
    parser.add_argument("tag", help="tag of the release, such as v1.2.3")


def _add_push(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=push)
    parser.add_argument("registry", help="registry and folder, such as ghcr.io/irsa-sidecar")
    parser.add_argument("--folder", type=Path, default=Path("dist"), help="folder with the release (dist)")
    parser.add_argument("--keys", type=Path, default=Path(".release-keys"), help="folder with cosign.key")
    parser.add_argument("--keyless", action="store_true", help="sign with the identity of the workflow instead")
    parser.add_argument("--plain-http", action="store_true", help="for a registry on this machine without TLS")


if __name__ == "__main__":
    main()
