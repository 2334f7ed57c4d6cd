"""
Start the subjects of measurements on loopback, all with the same token, role, secret and stub STS.

The command and the environment of a subject may contain the placeholders `{port}` and `{sts}`. This module stops each
process that it starts, by the process id.
"""

import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import jwt

from benchmarks import builds

SECRET = "benchmark-secret"
HOST = "127.0.0.1"
PATH = "/v1/credentials"
ROLE_ARN = "arn:aws:iam::111122223333:role/app"

START_SECONDS = 20.0
"""Longest time from exec to the first credentials. A slower subject counts as broken."""

BOTO3_PROGRAM = """
import signal
import boto3
credentials = boto3.Session().get_credentials().get_frozen_credentials()
print(credentials.access_key, flush=True)
signal.pause()
"""


class Subject(NamedTuple):
    """A server of credentials: its command, a one-line description (`what`), and the URL path of the credentials."""

    name: str
    what: str
    command: tuple[str, ...]
    environ: Mapping[str, str]
    path: str = PATH


_PORTS = iter(random.sample(range(20_000, 32_768), k=12_768))
"""Candidate ports in random order, so that processes that run at the same time rarely choose the same port."""


class Program(NamedTuple):
    """A program that gets its own credentials, then prints a line, and waits for a signal."""

    name: str
    what: str
    command: tuple[str, ...]
    environ: Mapping[str, str]


class Running(NamedTuple):
    pid: int
    port: int
    path: str = PATH


class Stub(NamedTuple):
    """A stub STS (stub_sts.py)."""

    url: str
    port: int

    def returned(self) -> int:
        """Return the number of credentials that the stub has returned."""
        return int(get(self.port, "/returned").partition(b"\r\n\r\n")[2])


def write_inputs(directory: Path) -> None:
    """Write the files that every subject reads: a token as the kubelet projects it, and the secret."""
    claims = {
        "aud": ["sts.amazonaws.com"],
        "exp": int(time.time()) + 86_400,
        "iat": int(time.time()),
        "iss": "https://oidc.example.com/id/A",
        "kubernetes.io": {"namespace": "shop", "pod": {"name": "cart"}, "serviceaccount": {"name": "cart"}},
        "sub": "system:serviceaccount:shop:cart",
    }
    (directory / "token").write_text(jwt.encode(claims, "k" * 32, algorithm="HS256"), encoding="ascii")
    (directory / "secret").write_text(SECRET, encoding="ascii")
    (directory / "secret").chmod(0o600)


def run(name: str, python: str, inputs: Path) -> Subject:
    """
    Return `irsa-sidecar run` under this interpreter, with its admin listener, as in a Pod.

    Raises MissingError if it cannot be built.
    """
    environment = builds.run_environment(python)
    what = f"irsa-sidecar run, wheel and locked packages on {describe_python(python)}"
    return Subject(name, what, (str(environment / "bin" / "irsa-sidecar"), "run"), _daemon(inputs))


def from_tree(name: str, inputs: Path) -> Subject:
    """Return `run` from the source tree under this interpreter. Counts of calls need no build."""
    return Subject(name, "irsa-sidecar run from the tree", (sys.executable, "-m", "sidecar", "run"), _daemon(inputs))


def _daemon(inputs: Path) -> dict[str, str]:
    return _aws(inputs) | {
        "IRSA_SIDECAR_LISTEN": f"{HOST}:{{port}}",
        "IRSA_SIDECAR_ADMIN_LISTEN": f"{HOST}:0",
        "IRSA_SIDECAR_AUTHORIZATION_TOKEN_FILE": str(inputs / "secret"),
    }


def aws_vault(name: str, inputs: Path) -> Subject:
    """
    Return the Go peer aws-vault.

    Raises MissingError if it cannot be built.
    """
    environ = _aws(inputs) | {"PEER_PORT": "{port}", "PEER_AUTHORIZATION": SECRET}
    what = "the ECS server package of aws-vault 7.2.0 and the web identity of the AWS SDK for Go, in our main program"
    return Subject(name, what, (str(builds.go_program(name, "vault")),), environ)


def metadata_mock(name: str) -> Subject:
    """
    Return AWS's Go server that imitates EC2's metadata service, with fixed credentials.

    Raises MissingError if it cannot be built.
    """
    what = (
        "AWS's amazon-ec2-metadata-mock 1.13.0 in Go, "
        "which serves fixed credentials as EC2's metadata service does, without STS"
    )
    program = builds.go_module(name, "github.com/aws/amazon-ec2-metadata-mock/cmd/ec2-metadata-mock@v1.13.0")
    command = (str(program), "--hostname", HOST, "--port", "{port}")
    return Subject(name, what, command, {}, "/latest/meta-data/iam/security-credentials/baskinc-role")


def nginx(name: str, inputs: Path) -> Subject:
    """
    Return nginx with one fixed response.

    Raises MissingError if it is not installed.
    """
    program = builds.tool("nginx")
    (inputs / "nginx").mkdir(exist_ok=True)
    (inputs / "nginx" / "template").write_text(NGINX, encoding="ascii")
    script = 'sed "s#PORT#$1#; s#HERE#$2#g" "$2/template" > "$2/$1.conf" && exec "$0" -p "$2" -c "$2/$1.conf"'
    command = ("sh", "-c", script, program, "{port}", str(inputs / "nginx"))
    return Subject(name, "nginx, one worker, one fixed response", command, {})


NGINX = """
daemon off; master_process off; pid HERE/PORT.pid; error_log /dev/null;
events { worker_connections 4096; }
http {
  access_log off; keepalive_timeout 0;
  server { listen 127.0.0.1:PORT backlog=1024; location / { return 200 '{"SecretAccessKey":"BODY"}'; } }
}
""".replace("BODY", "T" * 1100)


def limit(name: str) -> Subject:
    """
    Return the program of limit.c, which shows the upper limit of the machine.

    Raises MissingError if it cannot be built.
    """
    what = "one fixed response from one C thread with epoll, which shows what the machine can do"
    return Subject(name, what, (str(builds.c_program("limit")), "{port}", SECRET), {})


def boto3(name: str, python: str, inputs: Path) -> Program:
    """
    Return a process of boto3 that exchanges its own token, as every process does without a sidecar.

    Raises MissingError if it cannot be built.
    """
    environment = builds.boto3_environment(python)
    command = (str(environment / "bin" / "python"), "-c", BOTO3_PROGRAM)
    return Program(
        name, f"boto3's own web identity, without a sidecar, on {describe_python(python)}", command, _aws(inputs)
    )


def boto3_here(name: str, inputs: Path) -> Program:
    """Return the program of `boto3` under this interpreter, with the installed boto3."""
    return Program(
        name, "boto3's own web identity, without a sidecar", (sys.executable, "-c", BOTO3_PROGRAM), _aws(inputs)
    )


def go_sdk(name: str, inputs: Path) -> Program:
    """
    Return a process of the AWS SDK for Go that exchanges its own token.

    Raises MissingError if it cannot be built.
    """
    program = builds.go_program(name, "sdk")
    return Program(name, "the web identity of the AWS SDK for Go v2, without a sidecar", (str(program),), _aws(inputs))


def _aws(inputs: Path) -> dict[str, str]:
    return {
        "AWS_ROLE_ARN": ROLE_ARN,
        "AWS_WEB_IDENTITY_TOKEN_FILE": str(inputs / "token"),
        "AWS_ROLE_SESSION_NAME": "shop.cart",
        "AWS_REGION": "eu-west-1",
        "AWS_DEFAULT_REGION": "eu-west-1",
        "AWS_ENDPOINT_URL_STS": "{sts}",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }


def version(python: str) -> str:
    """
    Return the interpreter's version, such as `3.11.2`.

    Raises MissingError if the interpreter does not run.
    """
    return _python_output(python, "import platform; print(platform.python_version())")


def describe_python(python: str) -> str:
    """Return the interpreter's version and path, and a warning if it compiles its standard library at every start."""
    is_compiled = _python_output(python, "import argparse, os; print(os.path.exists(argparse.__cached__))") == "True"
    return f"Python {version(python)} ({python})" + ("" if is_compiled else ", whose own modules are NOT byte-compiled")


def _python_output(python: str, script: str) -> str:
    try:
        done = subprocess.run([python, "-I", "-c", script], check=True, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.SubprocessError) as exc:
        raise builds.MissingError(f"{python} does not run: {exc}") from exc
    return done.stdout.strip()


def spawn(
    subject: Subject | Program, *, port: int, sts: str, stdout: int = subprocess.DEVNULL
) -> subprocess.Popen[bytes]:
    """Start the command with an environment that has no variable of this process."""
    fill = {"port": str(port), "sts": sts}
    environ = {name: value.format(**fill) for name, value in subject.environ.items()}
    command = list(subject.command)
    if isinstance(subject, Subject):
        command = [argument.format(**fill) for argument in command]
    environ |= {"PATH": os.defpath, "HOME": "/nonexistent"}
    return subprocess.Popen(command, env=environ, stdin=subprocess.DEVNULL, stdout=stdout, stderr=subprocess.DEVNULL)


def end(process: subprocess.Popen[bytes]) -> None:
    """Send SIGTERM, and kill the process if it does not exit."""
    process.terminate()
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(timeout=10)
    if process.stdout is not None:
        process.stdout.close()


@contextmanager
def running(subject: Subject, sts: str) -> Iterator[Running]:
    """Run the subject, and yield it when it has credentials."""
    port = free_port()
    process = spawn(subject, port=port, sts=sts)
    try:
        wait_until_listening(process, port)
        served = Running(process.pid, port, subject.path)
        wait_until_served(process, served)
        yield served
    finally:
        end(process)


@contextmanager
def stub_sts(life_seconds: float = 3600) -> Iterator[Stub]:
    """Run an STS that responds at once, with sessions of this length."""
    command = [sys.executable, str(builds.HERE / "stub_sts.py"), "0", str(life_seconds)]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        url = process.stdout.readline().decode().strip()
        yield Stub(url, int(url.rpartition(":")[2]))
    finally:
        end(process)


def free_port() -> int:
    """Return a new port each time, below Linux's range for outgoing connections, so that no connection uses it."""
    for port in _PORTS:
        with socket.socket() as probe, suppress(OSError):
            probe.bind((HOST, port))
            return port
    raise RuntimeError("there is no free port below 32768")


def wait_until_listening(process: subprocess.Popen[bytes], port: int) -> None:
    """Try to connect every half millisecond until the port accepts."""
    deadline = time.monotonic() + START_SECONDS
    while not _connects(port):
        _give_up_if_ended(process, deadline)
        time.sleep(0.0005)


def wait_until_served(process: subprocess.Popen[bytes], server: Running) -> None:
    """Send GETs until a response has credentials."""
    deadline = time.monotonic() + START_SECONDS
    while not has_credentials(server.port, server.path):
        _give_up_if_ended(process, deadline)
        time.sleep(0.0005)


def try_out(subject: Subject, sts: str) -> None:
    """
    Start the subject once, and stop it.

    Raises MissingError if it does not serve.
    """
    try:
        with running(subject, sts):
            pass
    except (OSError, RuntimeError) as exc:
        raise builds.MissingError(f"it does not serve here: {exc}") from exc


def has_credentials(port: int, path: str = PATH) -> bool:
    """Return whether one GET on a new connection returns credentials."""
    try:
        response = get(port, path)
    except OSError:
        return False
    return response.startswith(b"HTTP/1.1 200") and b"SecretAccessKey" in response


def get(port: int, path: str) -> bytes:
    """
    Return the whole response, head and body, to one GET.

    Raises OSError if the connection fails.
    """
    request = f"GET {path} HTTP/1.1\r\nHost: {HOST}:{port}\r\nAuthorization: {SECRET}\r\nConnection: close\r\n\r\n"
    with socket.create_connection((HOST, port), timeout=START_SECONDS) as connection:
        connection.sendall(request.encode())
        response = b""
        while piece := connection.recv(65_536):
            response += piece
    return response


def _connects(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), timeout=1).close()
    except OSError:
        return False
    return True


def _give_up_if_ended(process: subprocess.Popen[bytes], deadline: float) -> None:
    if process.poll() is not None:
        raise RuntimeError(
            f"{process.args!r} ended with {process.returncode} before it served: start it by hand to see why"
        )
    if time.monotonic() > deadline:
        raise RuntimeError(f"{process.args!r} served no credentials within {START_SECONDS:.0f} s")
