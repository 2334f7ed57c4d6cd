"""
Run the shell blocks of a page without changes, in a folder that looks like a checkout of this repository.

Rule: nothing leaves this machine. `make` treats the packages as installed, AWS is moto with the EKS clusters `shop` and
`shop-green`, and the API server is a fake. Each page gets a new folder, home directory and account. The profile `data`
is for a second account, 444455556666.
"""

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import boto3

from tests.support.documents import ROOT, Block
from tests.support.fakes.api_server import FakeApiServer, api_server, kubeconfig
from tests.support.fakes.moto_server import MotoServer
from tests.support.processes import GUARD_SECONDS

NOT_LINKED = {".git", ".venv"}
INSTALLED = ("demo", "dev", "tools")
"""The lock files whose packages `make` treats as installed."""

CLUSTERS = ("shop", "shop-green")
NAMESPACE = "shop"
REGION = "eu-west-1"
OTHER_ACCOUNT_ID = "444455556666"
"""The number of the second account in all pages."""

END = "--- end"
"""The last line of the output, unless a block exited the shell early."""

Environment = dict[str, str]


def run(blocks: Iterable[Block], folder: Path, environment: Environment) -> "subprocess.CompletedProcess[str]":
    """Run the blocks in one shell, which stops at the first command that fails. The timeout is for a whole page."""
    return subprocess.run(
        ["bash", "-c", f"set -euo pipefail\n{script(blocks)}echo '{END}'\n"],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=5 * GUARD_SECONDS,
    )


def script(blocks: Iterable[Block]) -> str:
    """Return the lines that write a block's file, or that print the block's page and line and run its commands."""
    parts = list[str]()
    for block in blocks:
        if name := block.notes.get("file"):
            directory = shlex.quote(str(Path(name).parent))
            parts.append(f"mkdir -p {directory}\n{_here_document(f'cat >{shlex.quote(name)}', block.text)}")
        elif "typed in" in block.notes:
            parts[-1] = _here_document(parts[-1].rstrip("\n"), f"set -e\n{block.text}")
        else:
            parts.append(f"echo '--- {block}'\n{_expecting(block.notes.get('exits with'), block.text)}")
    return "".join(parts)


def _here_document(command: str, text: str) -> str:
    return f"{command} <<'END OF TEXT'\n{text}END OF TEXT\n"


def _expecting(status: str | None, commands: str) -> str:
    """Return the commands. If the block's note has an exit status, the commands must exit with that status."""
    return f"status=0\n{commands.rstrip()} || status=$?\ntest $status = {status}\n" if status else commands


def make_checkout(folder: Path) -> Environment:
    """Make the folder look like a checkout with installed packages, and return the environment for a shell."""
    for path in ROOT.iterdir():
        if path.name not in NOT_LINKED:
            (folder / path.name).symlink_to(path)
    installed = Path(sys.executable).parent
    virtual = folder / ".venv"
    virtual.mkdir()
    for path in installed.parent.iterdir():
        if not path.name.endswith(".installed"):
            (virtual / path.name).symlink_to(path)
    for name in INSTALLED:
        (virtual / f".{name}.installed").touch()
    home, runtime = folder / "home", folder / "run"
    home.mkdir()
    runtime.mkdir(mode=0o700)  # each page can then have its own process in the background
    places = {"HOME": str(home), "XDG_RUNTIME_DIR": str(runtime)}
    return {"PATH": f"{virtual}/bin:{os.environ['PATH']}", "SHELL": "/bin/sh", **places}


@contextmanager
def account(moto: MotoServer, folder: Path) -> Iterator[Environment]:
    """Provide an AWS account with EKS clusters, an API server, and the environment of a person with access to both."""
    moto.reset()
    credentials = {"AWS_ACCESS_KEY_ID": "AKIAFAKE", "AWS_SECRET_ACCESS_KEY": "secret"}
    _create_clusters(moto.url)
    _write_profile(moto.url, folder / "home")
    with api_server() as server:
        _fill(server)
        (folder / "kubeconfig").write_text(json.dumps(kubeconfig(server.url)))
        yield credentials | {
            "AWS_ENDPOINT_URL": moto.url,
            "AWS_EC2_METADATA_DISABLED": "true",
            "KUBECONFIG": str(folder / "kubeconfig"),
        }


def _create_clusters(url: str) -> None:
    eks = boto3.client(
        "eks", region_name=REGION, endpoint_url=url, aws_access_key_id="AKIAFAKE", aws_secret_access_key="secret"
    )
    for name in CLUSTERS:
        eks.create_cluster(name=name, roleArn="arn:aws:iam::123456789012:role/eks", resourcesVpcConfig={})
    eks.close()


def _write_profile(url: str, home: Path) -> None:
    """Write a profile whose keys belong to the second account. Moto does not require that the assumed role exists."""
    sts = boto3.client(
        "sts", region_name=REGION, endpoint_url=url, aws_access_key_id="AKIAFAKE", aws_secret_access_key="secret"
    )
    keys = sts.assume_role(RoleArn=f"arn:aws:iam::{OTHER_ACCOUNT_ID}:role/administrator", RoleSessionName="docs")
    sts.close()
    key, secret, token = (keys["Credentials"][name] for name in ("AccessKeyId", "SecretAccessKey", "SessionToken"))
    (home / ".aws").mkdir()
    (home / ".aws" / "config").write_text(
        f"[profile data]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\naws_session_token = {token}\n"
    )


def _fill(server: FakeApiServer) -> None:
    """Store the namespace of the pages in the API server."""
    path = f"/api/v1/namespaces/{NAMESPACE}"
    server.put(path, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
