"""
Split a file of authorities into a folder, so that OpenSSL reads only the authority that it needs at each start.

The folder has a file for each authority, named by a hash of the subject (OpenSSL's SSL_CTX_load_verify_locations and
openssl-rehash). The trusted authorities are the same. The OpenSSL library of Python's `ssl` computes the hash. If
OpenSSL is linked into the interpreter, the hash is not available, and no folder is created.
"""

import _ssl
import ctypes
import re
import ssl
from collections import Counter
from pathlib import Path

_PEM = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----\n", re.DOTALL)


def lay_out(bundle: Path, folder: Path, crypto: Path) -> None:
    """Create the folder from the certificates in the file. `crypto` is the libcrypto that computes the hashes."""
    library = _declared(ctypes.CDLL(str(crypto)))
    folder.mkdir()
    names: Counter[int] = Counter()
    for certificate in _PEM.findall(bundle.read_text(encoding="utf-8")):
        subject = _subject_hash(library, ssl.PEM_cert_to_DER_cert(certificate))
        (folder / f"{subject:08x}.{names[subject]}").write_text(certificate, encoding="ascii")
        names[subject] += 1


def ssl_module() -> Path | None:
    """Return the file whose libraries hold libcrypto, or None if `ssl` is part of the interpreter."""
    path = getattr(_ssl, "__file__", None)
    return Path(path) if path else None


def _declared(library: ctypes.CDLL) -> ctypes.CDLL:
    library.d2i_X509.argtypes = (ctypes.c_void_p, ctypes.POINTER(ctypes.c_char_p), ctypes.c_long)
    library.d2i_X509.restype = ctypes.c_void_p
    library.X509_subject_name_hash.argtypes = library.X509_free.argtypes = (ctypes.c_void_p,)
    library.X509_subject_name_hash.restype = ctypes.c_ulong
    return library


def _subject_hash(library: ctypes.CDLL, certificate: bytes) -> int:
    parsed = library.d2i_X509(None, ctypes.byref(ctypes.c_char_p(certificate)), len(certificate))
    if not parsed:
        raise ValueError("OpenSSL cannot read a certificate of the bundle")
    try:
        return int(library.X509_subject_name_hash(parsed))
    finally:
        library.X509_free(parsed)
