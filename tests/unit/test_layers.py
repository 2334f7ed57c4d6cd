"""
Test the structure of the program: allowed imports, and modules without I/O.

LINES contains each package and each flat module of `sidecar/`. A module imports only from lines above its own line, so
data flows in one direction. docs/architecture.md shows the same lines.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import sidecar

SIDECAR = Path(sidecar.__file__).parent

LINES = tuple(
    line.split()
    for line in """
redaction printable wrapping clock terminal mounts background startup
errors metrics log console credentials
addresses extras files file_thread role strict_yaml proxy_settings
config_file directory_watch named_file token_mistake store
token authorities outbound
ca_bundle serving kubernetes oidc
sts
config refresh
local daemon
client
injection attribution
policy
doctor setup webhook
audit status
commands
cli
__main__
""".strip().splitlines()
)

IO_MODULES = {
    "asyncio", "httpx", "httpx2", "logging", "os", "random", "secrets", "select", "signal", "socket", "ssl",
    "structlog", "subprocess", "tempfile", "time", "trio",
}  # fmt: skip
"""The modules that do I/O, read a clock or draw random numbers."""

PURE_PACKAGES = ("attribution", "injection", "policy", "doctor/checks", "setup/yaml", "audit/rules", "audit/report")

PURE = [
    "addresses", "credentials", "errors", "metrics", "printable", "proxy_settings", "redaction", "role",
    "token_mistake", "wrapping", "client/environment", "config/settings", "daemon/saved_state",
    "audit/accepted", "audit/aws_kept", "audit/finding", "audit/inventory", "audit/judge", "audit/kubernetes_kept",
    "audit/relations", "audit/trusting", "audit/workloads", "local/condition_operators", "local/conditions",
    "local/exchange", "local/policy_lines", "local/readable_policy", "local/trust_policy",
    "doctor/admin_address", "oidc/sts_rejection", "refresh/max_duration", "refresh/schedule", "serving/admin",
    "serving/container_credentials", "serving/hosts", "serving/http", "serving/imds", "serving/status",
    "serving/status_page", "serving/status_table", "status/read", "status/report", "status/targets", "setup/plan",
    "setup/plan_migration", "setup/plan_oidc_provider",
    "setup/plan_role", "setup/migration", "setup/publication", "setup/rotation", "setup/trust_policy",
    "sts/endpoint", "sts/errors", "sts/expiration", "sts/failover",
    "sts/request", "sts/session_name", "sts/settings", "sts/wire", "webhook/review", "webhook/certificate/issue",
    "webhook/certificate/ca_rollover",
]  # fmt: skip

NAMES_ONLY = {"addresses": {"socket"}, "client/environment": {"os"}}
"""The modules that pure modules may import for constants and conversions: `inet_pton`, `os.devnull`."""

ONLY_IMPORTERS = {
    "httpx": "outbound sts.client oidc.jwks setup.issuer_fetch",
    "httpx2": "kubernetes",
    "lightkube": "kubernetes",
    "botocore": "sts.signing doctor.probes.aws local setup.aws",
    "cryptography": "commands doctor local oidc setup webhook",
    "ctypes": "startup.hardening directory_watch client.signals",
    "yaml": "strict_yaml config kubernetes local.policy_lines policy.manifest setup",
    "signal": "client commands daemon startup.early_signals webhook",
}
"""The modules and packages that may import a library, by the library's name. Others must not import the library."""

COSTLY = {
    "argparse", "asyncio.events", "botocore", "cryptography", "email.parser", "http.client", "multiprocessing",
    "subprocess", "urllib.request", "yaml",
}  # fmt: skip
"""The modules that `run` must not import because they need the most memory. MAX_OWN_MODULES limits our own modules."""

COSTLY_WITH_A_CHAIN = COSTLY - {"cryptography", "multiprocessing"}
"""The modules of COSTLY that PyYAML and botocore's signer may import for a roles file with a chain."""

MAX_OWN_MODULES = 63
"""The limit for the number of our modules that `run` imports."""

VAGUE = {"common", "handler", "helper", "helpers", "impl", "manager", "misc", "util", "utils"}


def imports_of(path: Path) -> Iterator[str]:
    """Yield the full names that the file imports at run time, including imports in functions."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in MODULES else node.module


def name_of(path: Path) -> str:
    """Return the module's full name."""
    return ".".join(("sidecar", *path.relative_to(SIDECAR).with_suffix("").parts)).removesuffix(".__init__")


MODULES: Mapping[str, Path] = {name_of(path): path for path in SIDECAR.rglob("*.py")}
LINE_OF = {unit: number for number, line in enumerate(LINES) for unit in line}


def unit_of(module: str) -> str:
    return module.split(".")[1]


def within(module: str, names: str) -> bool:
    """Return whether the name of the module, without `sidecar.`, is in the list or in a package of the list."""
    return any(f"{module}.".startswith(f"sidecar.{name}.") for name in names.split())


def roots(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in imports_of(path)}


@pytest.mark.parametrize("module", sorted(set(MODULES) - {"sidecar"}))
def test_module_imports_only_from_lines_above(module: str) -> None:
    unit = unit_of(module)
    for name in set(imports_of(MODULES[module])) & set(MODULES) - {"sidecar"}:
        assert unit_of(name) == unit or LINE_OF[unit_of(name)] < LINE_OF[unit], name


def test_modules_have_no_import_cycle() -> None:
    graph = {module: set(imports_of(path)) & set(MODULES) - {"sidecar"} for module, path in MODULES.items()}
    try:
        tuple(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(" → ".join(error.args[1]))


PURE_FILES = [
    *(SIDECAR / f"{module}.py" for module in PURE),
    *(path for package in PURE_PACKAGES for path in (SIDECAR / package).rglob("*.py")),
]


@pytest.mark.parametrize("path", PURE_FILES, ids=name_of)
def test_pure_module_does_no_io(path: Path) -> None:
    allowed = NAMES_ONLY.get(str(path.relative_to(SIDECAR).with_suffix("")), set())
    assert not roots(path) & (IO_MODULES - allowed)


@pytest.mark.parametrize("path", [path for path in PURE_FILES if "doctor" not in path.parts], ids=name_of)
def test_pure_module_loads_no_library_for_io(path: Path) -> None:
    """Check all pure modules except doctor's checks, which read facts that modules with I/O define."""
    code = f"import sys, {name_of(path)}; print(*sorted({{'trio', 'httpx', 'structlog'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


@pytest.mark.parametrize("module", sorted(MODULES))
def test_module_that_claims_to_be_pure_does_no_io(module: str) -> None:
    docstring = ast.get_docstring(ast.parse(MODULES[module].read_text())) or ""
    if "Pure." in docstring:
        allowed = NAMES_ONLY.get(module.removeprefix("sidecar.").replace(".", "/"), set())
        assert not roots(MODULES[module]) & (IO_MODULES - allowed)


@pytest.mark.parametrize(("library", "importers"), ONLY_IMPORTERS.items())
def test_library_is_imported_by_few_modules(library: str, importers: str) -> None:
    found = {module for module, path in MODULES.items() if library in roots(path)}
    assert [module for module in sorted(found) if not within(module, importers)] == []
    assert found


CREATORS = {
    "sidecar.authorities": ("ssl.create_default_context(", "PROTOCOL_TLS_CLIENT"),
    "sidecar.outbound": ("httpx.AsyncClient(", "httpx.Client("),
}


@pytest.mark.parametrize("module", CREATORS)
def test_one_module_creates_tls_contexts_or_clients(module: str) -> None:
    """Check that one module chooses the authorities and the strictness of TLS, and that one chooses the proxy."""
    words = CREATORS[module]
    assert {name for name, path in MODULES.items() if any(word in path.read_text() for word in words)} == {module}


def test_only_signing_imports_botocore_in_a_pod() -> None:
    """Check imports of botocore, because the image for Pods has only botocore's signer and its imports."""
    names = {name for name in imports_of(MODULES["sidecar.sts.signing"]) if name.startswith("botocore")}
    assert {".".join(name.split(".")[:2]) for name in names} == {"botocore.auth", "botocore.awsrequest"}


def test_doctor_needs_no_extra() -> None:
    """Check that each module of doctor can be imported without the optional packages."""
    hidden = ["botocore", "cryptography", "rich", "lightkube", "httpx2", "msgspec"]
    modules = ", ".join(module for module in MODULES if within(module, "doctor commands.doctor"))
    code = f"import sys; sys.modules.update(dict.fromkeys({hidden})); import {modules}"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_module_names_are_specific() -> None:
    assert not VAGUE & {part for path in MODULES.values() for part in path.stem.split("_")}


def test_no_file_is_longer_than_400_lines() -> None:
    assert {module for module, path in MODULES.items() if len(path.read_text().splitlines()) > 400} == set()


def test_functions_are_short_and_take_few_parameters() -> None:
    """Check that 95 % of functions have at most 20 lines, and all at most 6 parameters besides self or cls."""
    functions = [
        node
        for path in MODULES.values()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    ]
    lengths = sorted((node.end_lineno or node.lineno) - node.lineno + 1 for node in functions)
    assert lengths[len(lengths) * 95 // 100] <= 20
    assert [node.name for node in functions if _parameters(node) > 6] == []


def _parameters(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    return sum(argument.arg not in {"self", "cls"} for argument in arguments)
