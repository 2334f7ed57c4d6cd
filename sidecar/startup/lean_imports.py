"""
Import the packages of `run` without the parts that a daemon never uses.

Rule: a part is stubbed only while `run` imports its packages. A later import gets the real module, for example when
botocore signs for a role with a chain. If a stub is called later, it raises an error with its name, because `run` uses
the part after all. `tests/end_to_end/test_rare_paths.py` runs the code in which that could happen.

Rule: a stub is applied only if each package that imports the part has the checked version. With any other version the
real part is imported, and the daemon logs that. A new release of a package therefore takes more memory, but does not
break `run`. A test compares the versions with requirements/run.txt.

Rule: every part lists the MiB of anonymous memory that it saves, measured alone (`benchmarks/imports.py --parts`). A
part that saves less than 0.1 MiB is not listed.
"""

import os.path
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any, NamedTuple

BLOCKED = (
    "anyio",  # needs asyncio
    "awscrt", "brotli", "click", "colorama",
    "cryptography",  # 3.4 MiB of anonymous memory, and 8.9 MiB resident
    "h2", "pygments", "rich", "socksio", "zstandard",
)  # fmt: skip
"""
Optional packages that our packages import if they are installed. A Pod's image has none of them.

If all are installed, they would take 15 MiB: cryptography for PyJWT, terminal colours for structlog and httpx, the C
signer for botocore. `run` reads only unverified claims and speaks only HTTP/1.1.
"""

CHECKED_VERSIONS = {
    "attrs": "26.1.0",
    "httpcore": "1.0.9",
    "httpx": "0.28.1",
    "outcome": "1.3.0.post0",
    "pyjwt": "2.15.1",
    "structlog": "26.1.0",
    "trio": "0.35.0",
}
"""Versions of packages with which the parts below were checked, by the name of the package's `dist-info` directory."""

CHECKED_PYTHONS = ((3, 11), (3, 12), (3, 13))
"""Versions of Python with which the parts below were checked. Python's own modules import some of them."""

PYTHON = "python"
"""The value in `importers` for a part that Python's own modules import."""


class Part(NamedTuple):
    """Modules that save memory only together, the packages that import them, and the saved MiB."""

    modules: tuple[str, ...]
    importers: tuple[str, ...]
    mebibytes: float


STUBBED = (
    # structlog has asynchronous methods, which `run` does not call.
    Part(("asyncio",), ("structlog",), 1.76),
    # httpx's clients use cookies and digests. `run` uses httpx's transport, which uses neither.
    Part(("http.client", "http.cookiejar", "urllib.request"), ("httpx",), 1.68),
    # `run` opens no file through trio and starts no process; httpx uses paths for uploads.
    Part(("pathlib", "trio._dtls", "trio._file_io", "trio._path", "trio._subprocess"), ("httpx", "trio"), 0.99),
    # `run` uses no memory channels. Creating their classes takes 1.7 % of the start.
    Part(("trio._channel",), ("trio",), 0.15),
    # trio uses it to name threads. The import of trio would start processes to find libpthread.
    Part(("ctypes.util",), ("trio",), 0.73),
    # PyJWT fetches keys. `run` does not, because STS verifies the token.
    Part(("jwt.jwks_client",), ("pyjwt",), 0.54),
    # structlog's defaults, of which `run` uses none.
    Part(("structlog.dev", "structlog.stdlib", "structlog.threadlocal", "structlog.tracebacks"), ("structlog",), 0.47),
    # outcome validates the values that trio stores in it.
    Part(("attr.validators",), ("attrs", "outcome"), 0.32),
    # PyJWT encodes times, which `run` does not.
    Part(("calendar",), ("pyjwt",), 0.29),
    # inspect parses source code, which `run` does not.
    Part(("ast",), (PYTHON,), 0.28),
    # structlog checks for this type and rejects it.
    Part(("pickle",), ("structlog",), 0.25),
    # attrs imports `platform` only to detect PyPy.
    Part(("platform",), ("attrs",), 0.11),
    # `run` uses the asynchronous half of httpcore.
    Part(("httpcore._sync", "httpcore._sync.connection_pool", "httpcore._sync.interfaces"), ("httpcore",), 0.15),
)
"""Parts that contain no name that `run` uses."""

LAZY = (
    # httpx imports certifi when it creates a client. httpx uses certifi's authorities only without a TLS context, and
    # authorities.py sets a TLS context.
    Part(("certifi",), ("httpx",), 0.52),
    # httpx parses charsets, which `run` does not use.
    Part(("email.message",), ("httpx",), 0.51),
    # httpx parses host names that are not ASCII, and URLs with an IP address.
    Part(("idna", "ipaddress"), ("httpx",), 0.43),
)
"""Parts that `run` rarely uses. The first use of a name of a part imports the real module."""


@contextmanager
def lean_imports() -> Iterator[list[str]]:
    """
    Stub parts for the imports in this block. Modules that are already imported do not change.

    After the block, the parts in STUBBED are no longer stubbed. Those in LAZY and BLOCKED stay as they are.

    Yields the packages whose version was not checked. The parts that they import are real.
    """
    modules: dict[str, Any] = sys.modules
    _Stub.is_harmless = True
    for name in BLOCKED:
        modules.setdefault(name, None)
    unchecked = unchecked_importers()
    for name in _applicable(LAZY, unchecked):
        _put(_LazyModule(name))
    stubs = [_put(_StubModule(name)) for name in _applicable(STUBBED, unchecked)]
    try:
        yield unchecked
    finally:
        _Stub.is_harmless = False
        for stub in stubs:
            del modules[stub.__name__]


def unchecked_importers() -> list[str]:
    """Return the packages, and Python, whose installed version is not the checked one."""
    python = [] if sys.version_info[:2] in CHECKED_PYTHONS else [PYTHON]
    return python + [name for name, version in CHECKED_VERSIONS.items() if not _is_installed(name, version)]


def _is_installed(name: str, version: str) -> bool:
    """
    Return whether this version is installed.

    `importlib.metadata` would import half of the parts that are stubbed here.
    """
    return any(os.path.isdir(os.path.join(path, f"{name}-{version}.dist-info")) for path in sys.path if path)


def _applicable(parts: tuple[Part, ...], unchecked: list[str]) -> list[str]:
    applicable = (part for part in parts if not set(part.importers) & set(unchecked))
    return [name for part in applicable for name in part.modules if name not in sys.modules]


def _put(module: ModuleType) -> ModuleType:
    """Put the module into sys.modules, and into its package if that is one of the packages that are cheap to import."""
    sys.modules[module.__name__] = module
    package, _, name = module.__name__.rpartition(".")
    if package in {"email", "urllib", "ctypes"}:
        setattr(import_module(package), name, module)
    return module


class _Stub:
    """A stub for a class or function. Code can name it and inherit from it, and call it while `run` imports."""

    is_harmless = True

    def __init__(self, *_args: object, **_kwargs: object) -> None:
        if not _Stub.is_harmless:
            name = f"{type(self).__module__}.{type(self).__qualname__}"
            raise RuntimeError(f"{name} is used, which lean_imports.py leaves out of `irsa-sidecar run`")

    def __call__(self, *_args: object, **_kwargs: object) -> None:
        pass

    def __bool__(self) -> bool:
        return False


class _StubModule(ModuleType):
    """A module in which every name exists, as a stub."""

    def __getattr__(self, name: str) -> type[_Stub]:
        _reject_dunder(self, name)
        stub = type(name, (_Stub,), {"__module__": self.__name__})
        setattr(self, name, stub)
        return stub


class _LazyModule(ModuleType):
    """A module that becomes the real one when code uses one of its names."""

    def __getattr__(self, name: str) -> Any:
        _reject_dunder(self, name)
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        real = import_module(self.__name__)
        self.__dict__.update(vars(real))
        return getattr(real, name)


def _reject_dunder(module: ModuleType, name: str) -> None:
    """Raise AttributeError for names such as `__path__` and `__all__`, which `import` looks up in each module."""
    if name.startswith("__"):
        raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")
