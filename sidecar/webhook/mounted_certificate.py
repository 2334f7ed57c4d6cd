"""
Somebody else's certificate, as cert-manager's from a mounted Secret: read again whenever its files change.

A certificate that cannot be used leaves the one before in use. The webhook's configuration is whose the certificate is;
cert-manager keeps its caBundle (annotation cert-manager.io/inject-ca-from).
"""

from cryptography import x509

from sidecar.errors import ConfigurationError
from sidecar.log import Logger
from sidecar.regular_file import file_identity, read_regular_file
from sidecar.webhook.certificate import KeyPair
from sidecar.webhook.metrics import WebhookMetrics
from sidecar.webhook.tls import Tls

LOOK_SECONDS = 10.0

MAX_FILE_BYTES = 1024 * 1024

_Identity = tuple[tuple[int, int, int] | None, ...]


class MountedCertificate:
    """Keeps `tls` as the two files have it. Raises ConfigurationError if they cannot be used at first."""

    def __init__(self, certificate_file: str, key_file: str, tls: Tls, log: Logger, metrics: WebhookMetrics) -> None:
        self._paths = (certificate_file, key_file)
        self._tls = tls
        self._log = log
        self._metrics = metrics
        self._seen = self._identity()
        self._take()

    def look(self) -> None:
        """Read the files again if they changed."""
        identity = self._identity()
        if identity == self._seen:
            return
        self._seen = identity
        try:
            self._take()
        except ConfigurationError as error:
            self._log.error("certificate_refused", reason=str(error), in_service="the certificate before")

    def _identity(self) -> _Identity:
        return tuple(file_identity(path) for path in self._paths)

    def _take(self) -> None:
        pair = KeyPair(*(_read(path) for path in self._paths))
        self._tls.use(pair)
        expires_at = x509.load_pem_x509_certificate(pair.certificate).not_valid_after_utc
        self._metrics.certificate_expires_at = expires_at.timestamp()
        self._log.info("certificate_in_use", source=self._paths[0], expires_at=expires_at.isoformat())


def _read(path: str) -> bytes:
    try:
        content = read_regular_file(path, MAX_FILE_BYTES)
    except OSError as exc:
        raise ConfigurationError(
            f"{path} cannot be read ({exc.strerror or exc}): is the volume mounted there?"
        ) from exc
    if not content:
        raise ConfigurationError(f"{path} is no file with a certificate or key in it: give a PEM file.")
    return content
