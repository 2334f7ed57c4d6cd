"""What `run` leaves out is not missed: not by what it imports, and not by what is imported later."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sidecar.startup.lean_imports import LATER, NOT_THERE, STOOD_IN_FOR
from tests.support.exchanges import Authority, scripted
from tests.support.processes import ROLE_ARN, hour_long_reply, pod_environment, run_daemon


def in_a_fresh_interpreter(code: str) -> str:
    """Without coverage's measuring, which imports some of what is left out."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


IMPORTED = """
import sys
from sidecar.startup.lean_imports import LATER, NOT_THERE, STOOD_IN_FOR, left_out
with left_out():
    import sidecar.daemon.run
"""


def test_nothing_is_left_out_twice_or_in_two_ways() -> None:
    names = [*NOT_THERE, *STOOD_IN_FOR, *LATER]
    assert len(set(names)) == len(names)


def test_what_is_imported_afterwards_is_real() -> None:
    found = in_a_fresh_interpreter(
        IMPORTED
        + """
for name in STOOD_IN_FOR:
    assert name not in sys.modules, name
import ast, http.client, urllib.request, pathlib, structlog.dev
print(type(ast.parse("1")).__name__, pathlib.Path("a"), http.client.OK, urllib.request.Request("http://a").host)
"""
    )
    assert found == "Module a 200 a"


def test_what_botocore_brings_works_beside_it() -> None:
    """A role with a chain has its requests signed by botocore, long after the start."""
    code = "from botocore.auth import SigV4Auth; from botocore.awsrequest import AWSRequest; print(SigV4Auth.__name__)"
    assert in_a_fresh_interpreter(IMPORTED + code) == "SigV4Auth"


@pytest.mark.parametrize("name", LATER)
def test_a_later_module_is_the_real_one_once_it_is_used(name: str) -> None:
    used = {"email.message": "Message", "idna": "encode", "ipaddress": "ip_address", "certifi": "where"}
    code = f"""
import importlib
early = sys.modules[{name!r}]
assert "Later" in type(early).__name__, "imported after all: is it worth its line?"
thing = early.{used.get(name, "guess_type")}
assert thing is getattr(importlib.import_module({name!r}), thing.__name__)
print(type(sys.modules[{name!r}]).__name__)
"""
    assert in_a_fresh_interpreter(IMPORTED + code) == "module"


def test_what_was_imported_before_stays_as_it_is() -> None:
    code = """
import ast, idna, platform
from sidecar.startup.lean_imports import left_out
with left_out():
    import ast as again, idna as later, platform as third
assert (again, later, third) == (ast, idna, platform)
assert ast.parse("1") and idna.encode("a") and platform.system()
"""
    in_a_fresh_interpreter(code)


@pytest.mark.parametrize(
    ("use", "name"),
    [
        ("import httpx; httpx.AsyncClient()", "CookieJar"),
        ("import trio; trio.open_file('a')", "open_file"),
        ("import trio; trio.Path('a')", "Path"),
        ("import structlog; structlog.ReturnLogger()", "ReturnLogger"),
        ("import httpcore; httpcore.ConnectionPool()", "ConnectionPool"),
    ],
)
def test_use_of_a_stand_in_after_the_start_raises_its_name(use: str, name: str) -> None:
    """A stand-in that did nothing in silence would break a path that no test takes."""
    code = f"""
try:
    {use}
except RuntimeError as error:
    print(error)
"""
    assert in_a_fresh_interpreter(IMPORTED + code).partition(" is used")[0].endswith(f".{name}")


def test_certifi_is_real_for_whoever_asks_it() -> None:
    """It is asked by httpcore for a proxy over TLS that was given no context."""
    code = "import httpcore, ssl; print(httpcore.default_ssl_context().cert_store_stats()['x509_ca'] > 50)"
    assert in_a_fresh_interpreter(IMPORTED + code) == "True"


COMPILED = ("/cryptography/", "/_cffi_backend.")
"""Libraries that PyJWT or botocore would load here, because this environment has them: 9 MiB of a Pod's memory."""

IS_INSTALLED = "import importlib.util; assert importlib.util.find_spec('cryptography')"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc says what a process has mapped")
async def test_run_leaves_installed_cryptography_out_of_memory(tmp_path: Path, authority: Authority) -> None:
    """Over TLS and with a chain, whose signer botocore imports long after the start."""
    chain = [{"role_arn": "arn:aws:iam::777788889999:role/data"}]
    roles = [{"name": "default", "role_arn": ROLE_ARN}, {"name": "chained", "role_arn": ROLE_ARN, "chain": chain}]
    (tmp_path / "roles.yaml").write_text(json.dumps({"roles": roles}))
    async with scripted(hour_long_reply(), tls=authority.server("127.0.0.1")) as sts:
        settings = {"AWS_CA_BUNDLE": authority.bundle, "IRSA_SIDECAR_CONFIG": str(tmp_path / "roles.yaml")}
        environment = pod_environment(tmp_path / "token", sts.url, **settings)
        async with run_daemon(environment, prelude=IS_INSTALLED) as running:
            await running.logged("credentials_refreshed", role="default")
            await running.logged("refresh_failed", role="chained")  # the script has no AssumeRole, which was signed
            mapped = Path(f"/proc/{running.process.pid}/maps").read_text()
    assert any((request.header("authorization") or "").startswith("AWS4-HMAC-SHA256") for request in sts.requests)
    assert [name for name in COMPILED if name in mapped] == []
