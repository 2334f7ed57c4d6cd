"""
Choose the authorities that a TLS context for another machine trusts.

Rule: contexts for connections to AWS and to issuers are created here, so these connections trust the same authorities.
Only a context of `unverified` does not verify certificates. This module imports no HTTP client, because the webhook
uses a different client from `run`.
"""

import os
import ssl
import stat
from collections.abc import Callable
from importlib.machinery import PathFinder

from sidecar.errors import ConfigurationError

CA_BUNDLE = "AWS_CA_BUNDLE"


class Authorities:
    """The authorities in use. `context` is replaced as a whole when the authorities change."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.context = context
        self.report: Callable[[str, Exception | None], None] = lambda _path, _error: None
        """
        The function to call after the authorities' file changed.

        Its arguments are the path, and the error or None.
        """

    async def refresh(self) -> None:
        """Load changed authorities. Public authorities never change in a process, so this method does nothing."""


def trust_in(ca_bundle: str | None) -> ssl.SSLContext:
    """
    Return a context that trusts the authorities of AWS_CA_BUNDLE, or else the public ones.

    Raises ConfigurationError if the file cannot be read as PEM certificates.
    """
    return named_authorities(CA_BUNDLE, ca_bundle) if ca_bundle else public_authorities()


def named_authorities(setting: str, path: str) -> ssl.SSLContext:
    """
    Return a context that trusts only the authorities in the file that `setting` names.

    Raises ConfigurationError if the file cannot be read as PEM certificates.
    """
    try:
        return accept_named(ssl.create_default_context(cafile=_regular(path)))
    except (OSError, ValueError) as exc:  # ssl.SSLError is an OSError; a NUL in the path causes a ValueError
        raise ConfigurationError(
            f"{setting} is {path!r}, which cannot be read as PEM certificates ({exc})",
            fix="Use a PEM file with the authorities to trust, or remove the setting",
            setting=setting,
        ) from exc


def authorities_in(*, file: str | None = None, text: str | None = None) -> ssl.SSLContext:
    """
    Return a context that trusts only these authorities, in PEM.

    Raises OSError, or its subclass ssl.SSLError, if the certificates cannot be read.
    """
    return accept_named(ssl.create_default_context(cafile=None if file is None else _regular(file), cadata=text))


def _regular(path: str) -> str:
    """
    Return the path.

    Raises OSError unless it is a regular file, because OpenSSL would wait for a FIFO's writer.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError("it is not a regular file")
    return path


def public_authorities(file: str | None = None) -> ssl.SSLContext:
    """
    Return a context that trusts the public authorities in `file`, or else those that certifi lists.

    certifi has no list in some distributions. The context then trusts the authorities of SSL_CERT_FILE, or the system's
    authorities, which an administrator may have changed.
    """
    file, folder = (file, None) if file else _certifi()
    context = ssl.create_default_context(cafile=file, capath=folder)
    return context if file or folder else accept_named(context)


def accept_named(context: ssl.SSLContext) -> ssl.SSLContext:
    """
    Let `context` accept the configured authorities as botocore does, on each version of Python.

    Since Python 3.13 `ssl.create_default_context` rejects certificates whose form violates RFC 5280
    (VERIFY_X509_STRICT), such as an authority without a key identifier. Many TLS-inspecting proxies and clusters have
    such authorities. Python 3.13 also accepts an intermediate authority as an anchor, which older versions do not.
    """
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


def unverified() -> ssl.SSLContext:
    """Return a context that accepts any certificate. Use it only to read the certificate, and send no data."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _certifi() -> tuple[str | None, str | None]:
    """
    Return the file and the folder of certifi's authorities. At least one of them is None.

    certifi is not imported, because its import loads 0.5 MiB of modules. Only the image has the folder. OpenSSL reads
    from the folder only the authority that it needs (`image/authorities.py`).
    """
    spec = PathFinder.find_spec("certifi")
    if spec is None or spec.origin is None:
        return None, None
    file, folder = (os.path.join(os.path.dirname(spec.origin), name) for name in ("cacert.pem", "cacert.d"))
    if os.path.isdir(folder):
        return None, folder
    return file if os.path.isfile(file) else None, None
