"""Test the image as in a Pod: no shell, no entry for the user in /etc/passwd, no writable file, and no network."""

import json
import time
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import jwt
import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from jwt.algorithms import RSAAlgorithm

from sidecar import __version__
from sidecar.local.issuer import generate_key
from tests.image.engine import Engine
from tests.support.fakes.tokens import service_account_claims, service_account_token
from tests.support.processes import GUARD_SECONDS, ROLE_ARN

MOST_BYTES = 58_000_000
"""The maximum size of the image in bytes. A Pod waits for the image on every new node."""

TOKEN_PATH = "/var/run/secrets/irsa-sidecar/token"
CREDENTIALS_URL = "http://127.0.0.1:4772/v1/credentials"
STS_URL = "http://127.0.0.1:4774"
ISSUER = "https://oidc.example.com/id/A"


def environment(**variables: str) -> tuple[str, ...]:
    return tuple(f"--env={name}={value}" for name, value in variables.items())


def mounted(source: Path, target: str) -> tuple[str, ...]:
    source.chmod(0o644)
    return (f"--volume={source}:{target}:ro",)


POD = environment(
    AWS_ROLE_ARN=ROLE_ARN, AWS_REGION="eu-west-1", AWS_WEB_IDENTITY_TOKEN_FILE=TOKEN_PATH, AWS_ENDPOINT_URL_STS=STS_URL
)


@pytest.fixture
def token(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text(service_account_token(time.time()))
    return path


def test_user_without_capabilities_can_run_the_image(engine: Engine) -> None:
    assert engine.run("--version").stdout.strip() == f"irsa-sidecar {__version__}"


def test_daemon_without_arguments_reports_the_missing_setting(engine: Engine) -> None:
    done = engine.run()
    assert done.returncode == 2
    assert "AWS_ROLE_ARN is not set" in done.stderr


def test_probe_without_a_daemon_fails_with_a_message(engine: Engine) -> None:
    done = engine.run("probe")
    assert done.returncode == 1
    assert "nothing answers on 127.0.0.1:4773" in done.stderr


ASK = f"""
import urllib.error, urllib.request
try:
    urllib.request.urlopen("{CREDENTIALS_URL}")
except urllib.error.HTTPError as error:
    print(error.code, error.read().decode())
"""


def test_daemon_without_credentials_returns_503_and_stops(engine: Engine, token: Path) -> None:
    with engine.running(options=(*POD, *mounted(token, TOKEN_PATH))) as name:
        _wait_for(engine, name, "refresh_failed")
        status, _, body = engine("exec", name, "python", "-c", ASK).stdout.partition(" ")
        assert status == "503"
        assert json.loads(body)["code"]
        probe = engine("exec", name, "irsa-sidecar", "probe", check=False)
        assert probe.returncode == 1
        assert "not ready" in probe.stderr
        engine("stop", f"--time={GUARD_SECONDS:.0f}", name)
        assert engine("wait", name).stdout.strip() == "0"


WHO_AM_I = """
import botocore.session
print(botocore.session.get_session().create_client("sts").get_caller_identity()["Arn"])
"""


def test_application_gets_credentials_that_sts_accepts(engine: Engine, tmp_path: Path) -> None:
    """Run three containers in one network namespace: a strict STS, the daemon, and an unmodified AWS SDK."""
    key = generate_key()
    claims = service_account_claims(time.time(), iss=ISSUER)
    (tmp_path / "token").write_text(jwt.encode(claims, key, "RS256", headers={"kid": "1"}))
    (tmp_path / "keys.json").write_text(json.dumps({"keys": [_jwk(key)]}))
    (tmp_path / "local.yaml").write_text(yaml.safe_dump(_account()))
    tools = f"{engine.image}-tools"
    flags = ("--config", "/etc/local.yaml", "--issuer", ISSUER, "--jwks-file", "/etc/keys.json")
    files = (*mounted(tmp_path / "local.yaml", "/etc/local.yaml"), *mounted(tmp_path / "keys.json", "/etc/keys.json"))
    with engine.running("local", *flags, image=tools, options=("--tmpfs=/tmp", *files)) as aws:
        _wait_for(engine, aws, "credentials_refreshed")
        shared = f"container:{aws}"
        with engine.running(network=shared, options=(*POD, *mounted(tmp_path / "token", TOKEN_PATH))) as daemon:
            _wait_for(engine, daemon, "credentials_refreshed")
            assert engine("exec", daemon, "irsa-sidecar", "probe").returncode == 0
            application = environment(
                AWS_CONTAINER_CREDENTIALS_FULL_URI=CREDENTIALS_URL,
                AWS_DEFAULT_REGION="eu-west-1",
                AWS_ENDPOINT_URL_STS=STS_URL,
            )
            done = engine.python(WHO_AM_I, network=shared, image=tools, options=application)
    assert done.stdout.strip() == "arn:aws:sts::111122223333:assumed-role/cart/shop.cart-7d4b9c-x2x9z", done.stderr


LISTING = """
import json, os
def writable(path):
    return os.access(path, os.W_OK) and not os.path.islink(path)
skipped = {"/proc", "/sys", "/dev", "/tmp"}
found = [(path, directories, files) for path, directories, files in os.walk("/")
         if not any(path == top or path.startswith(top + "/") for top in skipped)]
names = [os.path.join(path, name) for path, directories, files in found for name in files if name != ".dockerenv"]
paths = [path for path, *_ in found] + names
print(json.dumps({"files": names, "writable": [path for path in paths if writable(path)],
                  "programs": [path for path in names if os.access(path, os.X_OK) and ".so" not in path]}))
"""


@pytest.fixture(scope="module")
def listing(engine: Engine) -> dict[str, list[str]]:
    """Return the image's files and programs, and the paths that its user can write if no file system is read-only."""
    done = engine.python(LISTING, options=("--read-only=false",))
    found: dict[str, list[str]] = json.loads(done.stdout)
    return found


def test_only_python_and_our_program_are_executable(listing: dict[str, list[str]]) -> None:
    assert {Path(path).name.rstrip("0123456789.") for path in listing["programs"]} == {"python", "irsa-sidecar"}


def test_user_cannot_write_any_file(listing: dict[str, list[str]]) -> None:
    given_by_the_engine = {"/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/run/.containerenv"}
    assert set(listing["writable"]) <= given_by_the_engine


def test_only_the_packages_of_run_are_installed(listing: dict[str, list[str]]) -> None:
    installed = [path.partition("/site-packages/")[2] for path in listing["files"]]
    packages = {path.partition("/")[0] for path in installed}
    assert {"sidecar", "trio"} < packages
    assert not packages & {"cryptography", "lightkube", "pip", "setuptools"}
    assert not [path for path in installed if path.startswith("botocore/data/")]
    assert not [path for path in listing["files"] if "/tests/" in path or "/_tests/" in path]


@pytest.mark.parametrize("arguments", [("setup", "role", "cart"), ("audit",), ("who", "ASIAIOSFODNN7EXAMPLE")])
def test_command_for_tools_explains_that_the_image_lacks_it(engine: Engine, arguments: tuple[str, ...]) -> None:
    flags = ("--cloudtrail-api",) if arguments[0] == "who" else ()
    done = engine.run(*arguments, *flags)
    assert done.returncode == 2
    assert f"`irsa-sidecar {arguments[0]}` is not in the image for Pods. Run `make tools`" in done.stderr


def test_image_has_the_files_that_scanners_read(listing: dict[str, list[str]]) -> None:
    assert "/etc/os-release" in listing["files"]
    assert any(fnmatch(path, "*/trio-*.dist-info/METADATA") for path in listing["files"])
    assert any(path.startswith("/var/lib/dpkg/status.d/libssl") for path in listing["files"])


COMPILED = """
import json, sys
import sidecar.daemon.run, sidecar.commands.run, sidecar.commands.probe, sidecar.cli
def flags(path):
    with open(path, "rb") as file:
        return file.read(8)[4]
cached = {name: module.__cached__ for name, module in sys.modules.items() if getattr(module, "__cached__", None)}
print(json.dumps({name: flags(path) for name, path in cached.items()}))
"""

UNCHECKED_HASH = 0b01
"""The flag in the header of a compiled file that makes Python ignore the time of its source (PEP 552)."""


def test_every_module_that_run_imports_is_compiled(engine: Engine) -> None:
    flags: dict[str, int] = json.loads(engine.python(COMPILED).stdout)
    assert len(flags) > 100
    assert {name for name, flag in flags.items() if flag != UNCHECKED_HASH} == set()


TRUST = """
import os
from sidecar.authorities import trust_in
packages = next(path for path in __import__("sys").path if path.endswith("site-packages"))
with open(f"{packages}/certifi/cacert.pem") as bundle:
    count = bundle.read().count("BEGIN CERTIFICATE")
print(count, len(os.listdir(f"{packages}/certifi/cacert.d")), len(trust_in(None).get_ca_certs()))
"""


def test_start_reads_no_public_authorities(engine: Engine) -> None:
    done = engine.python(TRUST)
    there, laid_out, read = map(int, done.stdout.split())
    assert (laid_out, read) == (there, 0)


OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
"""The type of a released image. Podman does not show the health check of this type, but tests/release checks it."""


def test_image_has_labels_and_a_health_check(engine: Engine) -> None:
    found = engine.inspect()
    config = found["Config"]
    assert config["User"] == "65532:65532"
    assert config["Entrypoint"] == ["irsa-sidecar"]
    if found.get("ManifestType") != OCI_MANIFEST:
        assert (found.get("Healthcheck") or config["Healthcheck"])["Test"] == ["CMD", "irsa-sidecar", "probe"]
    labels = {name.removeprefix("org.opencontainers.image."): value for name, value in config["Labels"].items()}
    assert labels["version"] == __version__
    assert labels["licenses"] == "Apache-2.0"
    assert labels["revision"]
    assert labels["base.name"]
    assert found["Size"] < MOST_BYTES


def _jwk(key: RSAPrivateKey) -> dict[str, Any]:
    """Return the JWK without `key_ops`, because AWS rejects JWKs with an unsuitable `key_ops`."""
    public = RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
    return {"kty": "RSA", "kid": "1", "n": public["n"], "e": public["e"]}


def _account() -> dict[str, Any]:
    """Return the configuration of the local STS, with a role that trusts the issuer of the test."""
    trust = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {
                    "Federated": f"arn:aws:iam::111122223333:oidc-provider/{ISSUER.removeprefix('https://')}"
                },
                "Action": "sts:AssumeRoleWithWebIdentity",
            }
        ],
    }
    roles = [{"name": "app"}, {"arn": ROLE_ARN, "trust_policy": trust}]
    return {"region": "eu-west-1", "sts_port": int(STS_URL.rpartition(":")[2]), "roles": roles}


def _wait_for(engine: Engine, name: str, event: str) -> None:
    """Wait until the container has logged the event."""
    deadline = time.monotonic() + GUARD_SECONDS
    while True:
        logs = engine("logs", name)
        if event in logs.stdout + logs.stderr:
            return
        assert time.monotonic() < deadline, f"{name} never logged {event}:\n{logs.stdout}{logs.stderr}"
        time.sleep(0.05)
