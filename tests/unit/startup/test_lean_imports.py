"""Test that `run` works without the modules that it skips, during its imports and afterwards."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sidecar.startup import lean_imports as module
from sidecar.startup.lean_imports import BLOCKED, CHECKED_VERSIONS, LAZY, PYTHON, STUBBED, unchecked_importers
from tests.support.exchanges import Authority, scripted
from tests.support.processes import ROLE_ARN, hour_long_reply, pod_environment, run_daemon

REQUIREMENTS = Path(__file__).parents[3] / "requirements" / "run.txt"
LAZY_NAMES = [name for part in LAZY for name in part.modules]

needs_checked_versions = pytest.mark.skipif(bool(unchecked_importers()), reason="stubs need the checked versions")
"""A mark for tests of stubs, which `make test-newest` cannot run with newer versions."""


def in_fresh_interpreter(code: str) -> str:
    """
    Run the code in a new interpreter, and return its output.

    Coverage is off, because it imports some of the modules under test.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


IMPORTED = """
import sys
from sidecar.startup.lean_imports import STUBBED, lean_imports
with lean_imports() as unchecked:
    import sidecar.daemon.run
assert unchecked == []
"""


def test_no_module_is_listed_twice() -> None:
    names = [*BLOCKED, *(name for part in (*STUBBED, *LAZY) for name in part.modules)]
    assert len(set(names)) == len(names)


def test_each_skipped_part_saves_a_tenth_of_a_mebibyte() -> None:
    assert [part for part in (*STUBBED, *LAZY) if part.mebibytes < 0.1] == []


def test_checked_versions_equal_the_locked_versions() -> None:
    """If the versions differ, check the sizes with `benchmarks/imports.py --parts`, and update the table."""
    pins = [line.split()[0] for line in REQUIREMENTS.read_text().splitlines() if "==" in line]
    locked = dict(pin.split("==") for pin in pins)
    assert {name: locked[name] for name in CHECKED_VERSIONS} == dict(CHECKED_VERSIONS)


def test_every_importer_has_a_checked_version() -> None:
    importers = {name for part in (*STUBBED, *LAZY) for name in part.importers}
    assert importers == {*CHECKED_VERSIONS, PYTHON}


@needs_checked_versions
def test_unchecked_versions_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    assert unchecked_importers() == []
    monkeypatch.setattr(module, "CHECKED_PYTHONS", ())
    monkeypatch.setitem(CHECKED_VERSIONS, "trio", "0.0.1")
    assert unchecked_importers() == [PYTHON, "trio"]


@needs_checked_versions
def test_package_of_another_version_gets_no_stubs() -> None:
    code = """
import sys
from sidecar.startup import lean_imports
lean_imports.CHECKED_VERSIONS["trio"] = "0.0.1"
with lean_imports.lean_imports() as unchecked:
    import sidecar.daemon.run
import trio
print(unchecked, "trio._path" in sys.modules, trio.Path("a").name, "asyncio" in sys.modules)
"""
    assert in_fresh_interpreter(code) == "['trio'] True a False"


def test_daemon_can_be_imported_without_any_stub() -> None:
    code = """
import sys
from sidecar.startup import lean_imports
lean_imports.CHECKED_PYTHONS = ()
lean_imports.CHECKED_VERSIONS.update(dict.fromkeys(lean_imports.CHECKED_VERSIONS, "0.0.1"))
with lean_imports.lean_imports():
    import sidecar.daemon.run
print(*(name in sys.modules for name in ("asyncio", "http.client", "trio._path", "structlog.dev")))
"""
    assert in_fresh_interpreter(code) == "True True True True"


@needs_checked_versions
def test_import_after_the_start_loads_the_real_module() -> None:
    found = in_fresh_interpreter(
        IMPORTED
        + """
for part in STUBBED:
    for name in part.modules:
        assert name not in sys.modules, name
import ast, http.client, urllib.request, pathlib, structlog.dev
print(type(ast.parse("1")).__name__, pathlib.Path("a"), http.client.OK, urllib.request.Request("http://a").host)
"""
    )
    assert found == "Module a 200 a"


@needs_checked_versions
def test_botocore_signs_after_lean_imports() -> None:
    """Import the signer of botocore long after the start, as the daemon does for a role with a chain."""
    code = "from botocore.auth import SigV4Auth; from botocore.awsrequest import AWSRequest; print(SigV4Auth.__name__)"
    assert in_fresh_interpreter(IMPORTED + code) == "SigV4Auth"


@needs_checked_versions
@pytest.mark.parametrize("name", LAZY_NAMES)
def test_lazy_module_is_loaded_at_its_first_use(name: str) -> None:
    used = {"certifi": "where", "email.message": "Message", "idna": "encode", "ipaddress": "ip_address"}[name]
    code = f"""
import importlib
early = sys.modules[{name!r}]
assert "Lazy" in type(early).__name__, "the module was imported before its first use"
thing = early.{used}
assert thing is getattr(importlib.import_module({name!r}), thing.__name__)
print(type(sys.modules[{name!r}]).__name__)
"""
    assert in_fresh_interpreter(IMPORTED + code) == "module"


def test_modules_that_are_already_imported_stay_unchanged() -> None:
    code = """
import ast, idna, calendar
from sidecar.startup.lean_imports import lean_imports
with lean_imports():
    import ast as again, idna as later, calendar as third
assert (again, later, third) == (ast, idna, calendar)
assert ast.parse("1") and idna.encode("a") and calendar.timegm
"""
    in_fresh_interpreter(code)


@needs_checked_versions
@pytest.mark.parametrize(
    ("use", "name"),
    [
        ("import httpx; httpx.AsyncClient()", "CookieJar"),
        ("import trio; trio.open_file('a')", "open_file"),
        ("import trio; trio.Path('a')", "Path"),
        ("import structlog; structlog.dev.ConsoleRenderer()", "ConsoleRenderer"),
        ("import httpcore; httpcore.ConnectionPool()", "ConnectionPool"),
    ],
)
def test_use_of_a_stub_after_the_start_is_an_error(use: str, name: str) -> None:
    """Check that the error names the stub. A silent stub could break code that no test runs."""
    code = f"""
try:
    {use}
except RuntimeError as error:
    print(error)
"""
    assert in_fresh_interpreter(IMPORTED + code).partition(" is used")[0].endswith(f".{name}")


@needs_checked_versions
def test_certifi_is_loaded_at_its_first_use() -> None:
    """Use httpcore, which needs certifi for a proxy over TLS without a context."""
    code = "import httpcore, ssl; print(httpcore.default_ssl_context().cert_store_stats()['x509_ca'] > 50)"
    assert in_fresh_interpreter(IMPORTED + code) == "True"


COMPILED = ("/cryptography/", "/_cffi_backend.")
"""Paths of the libraries that PyJWT or botocore load if installed. They take 9 MiB of a Pod's memory."""

IS_INSTALLED = "import importlib.util; assert importlib.util.find_spec('cryptography')"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="this system has no /proc")
async def test_run_does_not_load_installed_cryptography(tmp_path: Path, authority: Authority) -> None:
    """Use TLS and a chain. For the chain, the daemon imports botocore's signer long after the start."""
    chain = [{"role_arn": "arn:aws:iam::777788889999:role/data"}]
    roles = [{"name": "default", "role_arn": ROLE_ARN}, {"name": "chained", "role_arn": ROLE_ARN, "chain": chain}]
    (tmp_path / "roles.yaml").write_text(json.dumps({"roles": roles}))
    async with scripted(hour_long_reply(), tls=authority.server("127.0.0.1")) as sts:
        settings = {"AWS_CA_BUNDLE": authority.bundle, "IRSA_SIDECAR_CONFIG": str(tmp_path / "roles.yaml")}
        environment = pod_environment(tmp_path / "token", sts.url, **settings)
        async with run_daemon(environment, prelude=IS_INSTALLED) as running:
            await running.logged("credentials_refreshed", role_name="default")
            # The scripted STS has no response to AssumeRole, but the daemon signed the request.
            await running.logged("refresh_failed", role_name="chained")
            mapped = Path(f"/proc/{running.process.pid}/maps").read_text()
    assert any((request.header("authorization") or "").startswith("AWS4-HMAC-SHA256") for request in sts.requests)
    assert [name for name in COMPILED if name in mapped] == []
