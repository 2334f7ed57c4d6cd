"""
What `run` leaves out of the packages that it imports: parts that a Pod would pay for and never uses.

Rule: a part is stood in for only while `run` imports its own. Whatever imports it later gets the real one, as botocore
does for a role with a chain. A stand-in that is called after that raises an error with its name: what it stands for is
used after all. `tests/end_to_end/test_rare_paths.py` takes the paths on which that could happen.

What each is worth is measured (docs/architecture.md); below 0.05 MiB nothing is here.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any

NOT_THERE = (
    "anyio", "awscrt", "brotli", "click", "colorama", "cryptography", "h2", "pygments", "rich", "socksio", "zstandard",
    "httpcore._async.http2", "httpcore._async.socks_proxy", "httpx._main", "structlog.twisted",
)  # fmt: skip
"""
Packages that ours use if they happen to be installed, and that a Pod would pay up to 15 MiB for: PyJWT without
cryptography, structlog and httpx without terminal colours, botocore's signer without the one in C. Only unverified
claims are read here, and only HTTP/1.1 is spoken. And what ours try in vain where these are not there.
"""

STOOD_IN_FOR = (
    "ast",  # inspect, to read source
    "asyncio",  # structlog's asynchronous methods
    "attr.validators",  # outcome, to check what trio gives it
    "calendar",  # PyJWT, to encode
    "ctypes.util",  # trio, to look for a library with processes of their own, for no more than names of threads
    "http.client", "http.cookiejar", "urllib.request",  # httpx's clients, for cookies and digests: we use its transport
    "httpcore._sync", "httpcore._sync.connection_pool", "httpcore._sync.interfaces",
    "jwt.jwks_client",
    "pathlib",  # httpx's uploads
    "pickle",  # structlog, to refuse it
    "platform",  # attrs, to ask for PyPy
    "structlog.dev", "structlog.stdlib", "structlog.testing", "structlog.threadlocal", "structlog.tracebacks",
    "trio._dtls", "trio._file_io", "trio._path", "trio._subprocess",
)  # fmt: skip
"""Parts of which ours import names at once, and use none of them in a Pod."""

LATER = ("certifi", "email.message", "idna", "ipaddress", "mimetypes")
"""
Modules that ours import at once, and use seldom: real ones, as soon as one of their names is used.

httpx imports certifi with each client, and asks it for authorities only where it is given none, which outbound.py
always does.
"""


@contextmanager
def left_out() -> Iterator[None]:
    """Import within it what `run` needs. What was imported before stays as it is."""
    modules: dict[str, Any] = sys.modules
    _Nothing.is_harmless = True
    for name in NOT_THERE:
        modules.setdefault(name, None)
    for name in LATER:
        if name not in modules:
            _put(_Later(name))
    stand_ins = [_put(_StandIn(name)) for name in STOOD_IN_FOR if name not in modules]
    try:
        yield
    finally:
        _Nothing.is_harmless = False
        for stand_in in stand_ins:
            del modules[stand_in.__name__]


def _put(module: ModuleType) -> ModuleType:
    """Where `import` finds it: among the modules, and in its package if that is there already or light."""
    sys.modules[module.__name__] = module
    package, _, name = module.__name__.rpartition(".")
    if package in {"email", "urllib", "ctypes"}:
        setattr(import_module(package), name, module)
    return module


class _Nothing:
    """A stand-in for a class or function: it may be named and inherited, and called while `run` imports."""

    is_harmless = True

    def __init__(self, *_args: object, **_kwargs: object) -> None:
        if not _Nothing.is_harmless:
            name = f"{type(self).__module__}.{type(self).__qualname__}"
            raise RuntimeError(f"{name} is used, which lean_imports.py leaves out of `irsa-sidecar run`")

    def __call__(self, *_args: object, **_kwargs: object) -> None:
        pass

    def __bool__(self) -> bool:
        return False


class _StandIn(ModuleType):
    """A module that has every name."""

    def __getattr__(self, name: str) -> type[_Nothing]:
        _refuse_inner(self, name)
        made = type(name, (_Nothing,), {"__module__": self.__name__})
        setattr(self, name, made)
        return made


class _Later(ModuleType):
    """A module that becomes the real one when something of it is used."""

    def __getattr__(self, name: str) -> Any:
        _refuse_inner(self, name)
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        real = import_module(self.__name__)
        self.__dict__.update(vars(real))
        return getattr(real, name)


def _refuse_inner(module: ModuleType, name: str) -> None:
    """`import` asks modules for names such as `__path__` and `__all__`, and takes their absence for an answer."""
    if name.startswith("__"):
        raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")
