"""
Somebody else's certificate, as cert-manager's from a mounted Secret: read again whenever its files change.

A certificate that cannot be used, for whatever reason, leaves the one before in use. The webhook's configuration is
whose the certificate is; cert-manager keeps its caBundle (annotation cert-manager.io/inject-ca-from).
"""

from sidecar.errors import ConfigurationError, FileTimeoutError
from sidecar.file_thread import in_thread
from sidecar.files import file_version, read_regular_file
from sidecar.log import Logger
from sidecar.webhook.certificate.issue import KeyPair, Validity, validity_of
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
        self._seen: _Identity | None = self._identity()
        try:
            self._use(self._read())
        except OSError as exc:
            path = exc.filename or certificate_file
            raise ConfigurationError(
                f"{path} cannot be read ({exc.strerror or exc}): is the volume mounted there?"
            ) from exc

    async def look(self) -> None:
        """Read the files again if they changed, in a thread because their volume may hang."""
        identity: _Identity | None = None
        try:
            identity = await in_thread(self._paths[0], self._identity)
            if identity == self._seen:
                return
            pair = await in_thread(self._paths[0], self._read)
            self._use(pair)
            self._seen = identity
        except ConfigurationError as error:
            self._seen = identity
            self._log.error("certificate_rejected", reason=str(error), still_active="the previous certificate")
        except (OSError, FileTimeoutError) as exc:  # the next check tries again, although nothing changed
            self._seen = None
            self._log.error("certificate_read_failed", reason=str(exc), still_active="the previous certificate")

    def _identity(self) -> _Identity:
        return tuple(file_version(path) for path in self._paths)

    def _read(self) -> KeyPair:
        return KeyPair(*(_read(path) for path in self._paths))

    def _use(self, pair: KeyPair) -> None:
        validity = _validity(pair, self._paths[0])  # before it is in use: OpenSSL takes what cryptography does not
        self._tls.use(pair)
        self._metrics.certificate = validity
        self._log.info("certificate_activated", source=self._paths[0], expires_at=validity.expires_at.isoformat())


def _validity(pair: KeyPair, path: str) -> Validity:
    try:
        return validity_of(pair)
    except ValueError as exc:
        raise ConfigurationError(
            f"{path} has no certificate that can be read ({exc}): give a PEM certificate."
        ) from exc


def _read(path: str) -> bytes:
    content = read_regular_file(path, MAX_FILE_BYTES)
    if not content:
        raise ConfigurationError(f"{path} is no file with a certificate or key in it: give a PEM file.")
    return content
