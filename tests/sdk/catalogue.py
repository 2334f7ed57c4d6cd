"""List the SDK clients. Each has a program in a folder of `clients/`, a lock file for its packages, and a recipe."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
CLIENTS_FOLDER = Path(__file__).parent / "clients"


@dataclass(frozen=True, slots=True)
class Client:
    """
    A client, which is one row of the table. Other clients with the same packages may be in the same folder.

    `recipe` is one of build.RECIPES. In the file `lock` the pattern `package` finds the installed version. Without
    `has_sts` the client cannot call GetCallerIdentity.
    """

    name: str
    title: str
    folder_name: str
    program: str
    recipe: str
    lock: str
    package: str
    has_sts: bool = True

    @property
    def folder(self) -> Path:
        return CLIENTS_FOLDER / self.folder_name

    @property
    def version(self) -> str:
        """Return the locked version."""
        found = re.search(self.package, (self.folder / self.lock).read_text(encoding="utf-8"))
        assert found, f"{self.folder / self.lock} does not contain {self.package}"
        return found[1]


_DEV_LOCK = "../../../../requirements/dev.txt"
"""The lock file of the tests, which have boto3 and the CLI as dependencies."""


def _pip(package: str) -> str:
    return rf"(?m)^{package}==([\w.]+)"


def _npm(package: str) -> str:
    return rf'"node_modules/{package}": {{\s+"version": "([\w.]+)"'


def _go(module: str) -> str:
    return rf"\t{module} v([\w.]+)"


def _maven(group: str) -> str:
    return rf"<groupId>{group}</groupId>\s+<artifactId>[\w-]+</artifactId>\s+<version>([\w.]+)"


def _cargo(package: str) -> str:
    return rf'name = "{package}"\s+version = "([\w.]+)"'


CLIENTS = (
    Client("boto3", "boto3", "boto3", "boto3.client", "dev", _DEV_LOCK, _pip("boto3")),
    Client(
        "boto3_debian12",
        "botocore of Debian 12",
        "boto3_debian12",
        "boto3.client",
        "venv",
        "requirements.txt",
        _pip("botocore"),
    ),
    Client("aws_cli_v1", "AWS CLI v1", "aws_cli_v1", "aws_cli_v1.client", "dev", _DEV_LOCK, _pip("awscli")),
    Client(
        "aiobotocore",
        "aiobotocore",
        "aiobotocore",
        "aiobotocore.client",
        "venv",
        "requirements.txt",
        _pip("aiobotocore"),
    ),
    Client(
        "javascript_v3",
        "AWS SDK for JavaScript v3 (client-sts)",
        "javascript",
        "v3",
        "node",
        "package-lock.json",
        _npm("@aws-sdk/client-sts"),
    ),
    Client(
        "javascript_v2",
        "AWS SDK for JavaScript v2",
        "javascript",
        "v2",
        "node",
        "package-lock.json",
        _npm("aws-sdk"),
    ),
    Client(
        "go_v2",
        "AWS SDK for Go v2 (config)",
        "go",
        "sdk_v2",
        "go",
        "go.mod",
        _go("github.com/aws/aws-sdk-go-v2/config"),
    ),
    Client("go_v1", "AWS SDK for Go v1", "go", "sdk_v1", "go", "go.mod", _go("github.com/aws/aws-sdk-go")),
    Client("java_v2", "AWS SDK for Java v2", "java", "V2", "java", "pom.xml", _maven("software.amazon.awssdk")),
    Client("java_v1", "AWS SDK for Java v1", "java", "V1", "java", "pom.xml", _maven("com.amazonaws")),
    Client("rust", "AWS SDK for Rust (aws-config)", "rust", "client", "rust", "Cargo.lock", _cargo("aws-config")),
    Client(
        "minio_go",
        "minio-go",
        "go",
        "minio",
        "go",
        "go.mod",
        _go("github.com/minio/minio-go/v7"),
        has_sts=False,
    ),
    Client(
        "object_store",
        "Rust object_store (obstore)",
        "object_store",
        "object_store.client",
        "venv",
        "requirements.txt",
        _pip("obstore"),
        has_sts=False,
    ),
)

BY_NAME = {client.name: client for client in CLIENTS}
