"""What each layer may not know. The shape of the program is a promise, so a test holds it."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SIDECAR = Path(__file__).parent.parent / "sidecar"

PURE = [
    "serving.admin",
    "client.environment",
    "config.settings",
    "credentials",
    "refresh.max_duration",
    "serving.container_credentials",
    "errors",
    "sts.failover",
    "commands.help_text",
    "serving.http",
    "serving.imds",
    "injection.sidecar_container",
    "injection.eks_webhook",
    "injection.options",
    "injection.app_container",
    "injection.assignment",
    "injection.json_patch",
    "injection.known_names",
    "injection.inject",
    "injection.validation",
    "injection.shared_processes",
    "injection.similar_names",
    "injection.warning",
    "sts.expiration",
    "metrics",
    "proxy_settings",
    "redaction",
    "printable",
    "role",
    "daemon.saved_state",
    "refresh.schedule",
    "sts.session_name",
    "sts.wire",
    "sts.endpoint",
    "sts.errors",
    "injection.pod_termination",
    "token_mistake",
    "webhook.certificate.issue",
    "webhook.review",
    "webhook.certificate.ca_rollover",
]

IO_MODULES = {"trio", "httpx", "socket", "os", "time", "random", "secrets", "logging", "structlog", "asyncio", "signal"}

ONLY_IMPORTER = {
    "httpx": {"outbound", "sts.client", "oidc.jwks"},
    "signal": {
        "daemon.daemon",
        "client.application",
        "client.command",
        "startup.early_signals",
        "client.signals",
        "commands.run",
        "commands.local",
    },
    "ctypes": {"startup.hardening", "directory_watch", "client.signals"},
    "struct": {"serving.peer", "serving.proc_net"},
    "sidecar.startup.hardening": {"cli", "commands.run"},
    "sidecar.serving.peer": {"daemon.daemon", "serving.proc_net"},
    "sidecar.serving.proc_net": {"serving.peer"},
    "yaml": {"strict_yaml", "config.roles_file"},
    "sidecar.serving.imds": {"daemon.daemon"},
    "sidecar.daemon.state_directory": {"daemon.daemon", "config.checks"},
    "sidecar.daemon.saved_state": {"daemon.state_directory"},
    "sidecar.daemon.credentials_file": {"daemon.daemon", "doctor.probes.environment", "config.checks"},
    "sidecar.sts.signing": {"sts.client"},
    "sidecar.config.roles_file": {"config.settings", "config.checks", "injection.options"},
}
"""Within what a Pod runs: who alone may know a module."""

FLOW = [
    "errors",
    "clock",
    "file_thread",
    "directory_watch",
    "serving.authorization",
    "token",
    "outbound",
    "sts.wire",
    "sts.client",
    "sts.regions",
    "refresh.schedule",
    "store",
    "refresh.refresher",
    "serving.container_credentials",
    "serving.imds",
    "serving.peer",
    "daemon.authorization_files",
    "daemon.served_roles",
    "daemon.credentials_file",
    "daemon.state_directory",
    "serving.server",
    "daemon.daemon",
]
"""The stations, in the order of the data. None imports one after it."""

FORBIDDEN_IN_RUN = {
    "anyio", "boto3", "botocore", "click", "cryptography", "hypercorn", "prometheus_client",
    "rich", "pygments", "yaml", "sidecar.daemon.credentials_file", "sidecar.serving.imds", "sidecar.local",
    "sidecar.setup",
    "sidecar.client.application", "sidecar.serving.pending", "sidecar.printable", "sidecar.serving.proc_net",
    "sidecar.oidc.jwks",
    "sidecar.console", "sidecar.daemon.saved_state", "sidecar.client.shell_lines", "sidecar.daemon.state_directory",
    "sidecar.injection.pod_termination", "sidecar.token_mistake",
    "multiprocessing", "concurrent.futures.thread", "argparse", "ast", "asyncio.events", "email.parser", "http.client",
    "httpcore._sync.http11", "importlib.resources", "jwt.jwks_client", "pathlib", "platform", "shutil",
    "structlog.dev", "subprocess", "tempfile", "trio._dtls", "urllib.request",
}  # fmt: skip


WITH_A_CHAIN = {
    "yaml", "botocore", "argparse", "ast", "asyncio.events", "email.parser", "http.client", "importlib.resources",
    "pathlib", "platform", "shutil", "subprocess", "tempfile", "urllib.request",
}  # fmt: skip
"""Of the forbidden, what comes in when a file of roles has a chain in it."""

BOTOCORE_WITH_A_CHAIN = {
    "auth", "awsrequest", "compat", "context", "exceptions", "httpsession", "plugin", "service_module_names",
    "useragent", "utils", "vendored",
}  # fmt: skip
"""What botocore's signer brings with it: no client, session, model, loader or parser, and no other credentials."""


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


SIDE_ROOMS = {"local", "setup", "webhook", "kubernetes"}
"""Capabilities of their own, each with an extra; none of them runs beside an application."""

IN_THE_POD = [path for path in SIDECAR.rglob("*.py") if not SIDE_ROOMS & set(path.relative_to(SIDECAR).parts)]


@pytest.mark.parametrize("module", PURE)
def test_the_pure_core_does_no_io_and_reads_no_clock(module: str) -> None:
    allowed = {"os"} if module == "client.environment" else set()  # os.devnull, a name
    roots = {name.partition(".")[0] for name in imports_of(SIDECAR / f"{module.replace('.', '/')}.py")}
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
    assert not later & set(imports_of(SIDECAR / f"{station.replace('.', '/')}.py"))


MAKES_CONNECTIONS = ("ssl.create_default_context(", "httpx.AsyncClient(", "httpx.Client(", "PROTOCOL_TLS_CLIENT")


def test_outbound_alone_creates_tls_contexts_and_clients_of_httpx() -> None:
    """So one rule says which authorities are trusted, how strictly, and through which proxy."""
    found = {
        name_of(path) for path in SIDECAR.rglob("*.py") if any(word in path.read_text() for word in MAKES_CONNECTIONS)
    }
    assert found == {"outbound"}


NEED_AN_EXTRA = {"commands.local", "commands.token", "doctor.probes.aws", "doctor.probes.issuer"}
"""Where botocore or cryptography is imported, and only when it is asked for: a Pod's image has neither."""


def test_only_the_local_room_and_its_command_need_the_local_extra() -> None:
    for path in IN_THE_POD:
        if name_of(path) in NEED_AN_EXTRA:
            continue
        assert "cryptography" not in {name.partition(".")[0] for name in imports_of(path)}, path


def test_of_botocore_a_pod_knows_the_signer_and_one_module_knows_that() -> None:
    run = [path for path in IN_THE_POD if name_of(path) not in NEED_AN_EXTRA]
    found = {name_of(path): {n for n in imports_of(path) if n.startswith("botocore")} for path in run}
    modules = {".".join(name.split(".")[:2]) for name in found.pop("sts.signing")}
    assert modules == {"botocore.auth", "botocore.awsrequest"}
    assert not any(found.values())


SETUP_PURE = [
    "setup.document_changes",
    "setup.discovery_documents",
    "setup.output_formats",
    "setup.plan_oidc_provider",
    "setup.plan_role",
    "setup.issuer_checks",
    "setup.manifests",
    "setup.plan",
    "setup.pod_kinds",
    "setup.resources",
    "setup.text_edits",
    "setup.trust_policy",
    "setup.yaml.edit",
    "setup.yaml.emit",
    "setup.yaml.errors",
    "setup.yaml.layout",
    "setup.yaml.reader",
    "setup.yaml.scalars",
    "setup.yaml.stream",
]


@pytest.mark.parametrize("module", SETUP_PURE)
def test_what_setup_plans_it_plans_without_io(module: str) -> None:
    roots = {name.partition(".")[0] for name in imports_of(SIDECAR / f"{module.replace('.', '/')}.py")}
    assert not roots & (IO_MODULES | {"botocore", "httpx2", "lightkube"})


@pytest.mark.parametrize(("module", "importer"), [("botocore", "setup.aws"), ("httpx", "setup.issuer_fetch")])
def test_one_module_of_setup_alone_knows(module: str, importer: str) -> None:
    found = {
        name_of(path)
        for path in (SIDECAR / "setup").rglob("*.py")
        if module in {name.partition(".")[0] for name in imports_of(path)}
    }
    assert found == {importer}


MAY_ASK_A_CLUSTER = {"doctor.probes.pod"}
"""For `doctor --pod`."""


def test_nothing_outside_of_the_side_rooms_imports_setup_but_its_command() -> None:
    for path in IN_THE_POD:
        if name_of(path) not in MAY_ASK_A_CLUSTER:
            assert not any(name.startswith("sidecar.setup") for name in imports_of(path)), path


LOOKS = {"from_sidecar", "from_application", "from_pod", "run", "gather"}


def test_what_doctor_judges_by_looks_at_nothing() -> None:
    for path in (SIDECAR / "doctor").glob("*.py"):
        if path.stem not in LOOKS:
            assert not IO_MODULES & {name.partition(".")[0] for name in imports_of(path)}, path


def test_doctor_comes_with_what_a_pod_installs() -> None:
    """Its parts that need more say so, when it comes to them."""
    hidden = ["botocore", "cryptography", "rich", "lightkube", "httpx2", "msgspec"]
    code = f"import sys; sys.modules.update(dict.fromkeys({hidden})); import sidecar.commands.doctor, " + ", ".join(
        f"sidecar.{name_of(path)}" for path in (SIDECAR / "doctor").rglob("*.py") if path.stem != "__init__"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_names_are_the_fields_own_terms() -> None:
    vague = {"utils", "util", "helpers", "helper", "manager", "handler", "impl", "common", "misc"}
    assert not vague & {part for path in SIDECAR.rglob("*.py") for part in path.stem.split("_")}
