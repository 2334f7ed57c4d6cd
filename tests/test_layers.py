"""What each layer may not know. The shape of the program is a promise, so a test holds it."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SIDECAR = Path(__file__).parent.parent / "sidecar"

PURE = [
    "admin",
    "client_environment",
    "config",
    "credentials",
    "endpoint",
    "errors",
    "failover",
    "http",
    "imds",
    "lifetime",
    "metrics",
    "role",
    "schedule",
    "session_name",
    "sts",
    "sts_endpoint",
    "sts_errors",
]

IO_MODULES = {"trio", "httpx", "socket", "os", "time", "random", "secrets", "logging", "structlog", "asyncio", "signal"}

ONLY_IMPORTER = {
    "httpx": {"sts_client"},
    "signal": {"daemon", "application", "commands.run", "commands.local"},
    "ctypes": {"hardening", "token_watch"},
    "struct": {"peer"},
    "sidecar.hardening": {"commands.run"},
    "sidecar.peer": {"daemon"},
    "yaml": {"roles_file"},
    "sidecar.roles_file": {"config"},
    "sidecar.imds": {"daemon"},
    "sidecar.credentials_file": {"daemon"},
}
"""Within what a Pod runs: who alone may know a module."""

FLOW = [
    "errors",
    "clock",
    "token",
    "sts",
    "sts_client",
    "sts_regions",
    "schedule",
    "store",
    "refresher",
    "endpoint",
    "imds",
    "peer",
    "served_roles",
    "credentials_file",
    "server",
    "daemon",
]
"""The stations, in the order of the data. None imports one after it."""

FORBIDDEN_IN_RUN = {
    "anyio", "boto3", "botocore", "click", "cryptography", "hypercorn", "prometheus_client",
    "rich", "pygments", "yaml", "sidecar.credentials_file", "sidecar.imds", "sidecar.local", "sidecar.application",
    "multiprocessing", "concurrent.futures.thread",
}  # fmt: skip


def imports_of(path: Path) -> Iterator[str]:
    """Full names of what the file imports at run time, wherever in it."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(SIDECAR).with_suffix("").parts)


IN_THE_POD = [path for path in SIDECAR.rglob("*.py") if "local" not in path.parts]


@pytest.mark.parametrize("module", PURE)
def test_the_pure_core_does_no_io_and_reads_no_clock(module: str) -> None:
    allowed = {"os"} if module == "client_environment" else set()  # os.devnull, a name
    roots = {name.partition(".")[0] for name in imports_of(SIDECAR / f"{module}.py")}
    assert not roots & (IO_MODULES - allowed)


@pytest.mark.parametrize("module", PURE)
def test_the_pure_core_builds_on_nothing_that_does(module: str) -> None:
    code = f"import sys, sidecar.{module}; print(*sorted({{'trio', 'httpx', 'structlog'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


@pytest.mark.parametrize(("module", "importers"), ONLY_IMPORTER.items())
def test_one_module_alone_knows(module: str, importers: set[str]) -> None:
    found = {name_of(path) for path in IN_THE_POD if module in imports_of(path)}
    assert found <= importers


@pytest.mark.parametrize("station", FLOW)
def test_data_flows_one_way(station: str) -> None:
    later = {f"sidecar.{name}" for name in FLOW[FLOW.index(station) + 1 :]}
    assert not later & set(imports_of(SIDECAR / f"{station}.py"))


def test_only_the_local_room_and_its_command_need_the_local_extra() -> None:
    for path in IN_THE_POD:
        if name_of(path) in {"commands.local", "commands.token"}:
            continue
        assert not {"botocore", "cryptography"} & {name.partition(".")[0] for name in imports_of(path)}, path


def test_names_are_the_fields_own_terms() -> None:
    vague = {"utils", "util", "helpers", "helper", "manager", "handler", "impl", "common", "misc"}
    assert not vague & {part for path in SIDECAR.rglob("*.py") for part in path.stem.split("_")}
