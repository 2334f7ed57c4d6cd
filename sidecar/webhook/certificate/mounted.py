"""
Use a certificate of another issuer, such as cert-manager, from a mounted Secret, and read it again after a change.

Rule: if a new certificate is unusable, the previous one stays active. The issuer of the certificate also updates the
caBundle of the webhook's configuration. cert-manager uses the annotation cert-manager.io/inject-ca-from for this.
"""

from sidecar.errors import ConfigurationError, FileTimeoutError
from sidecar.file_thread import in_thread
from sidecar.files import file_version, read_regular_file
from sidecar.log import Logger
from sidecar.webhook.certificate.issue import KeyPair, Validity, validity_of
from sidecar.webhook.metrics import WebhookMetrics
from sidecar.webhook.tls import Tls

CHECK_SECONDS = 10.0

MAX_FILE_BYTES = 1024 * 1024

_Versions = tuple[tuple[int, int, int] | None, ...]


class MountedCertificate:
    """
    A certificate and its key in two files. The certificate is active in `tls`.

    Raises ConfigurationError if the certificate is unusable at the start.
    """

    def __init__(self, certificate_file: str, key_file: str, tls: Tls, log: Logger, metrics: WebhookMetrics) -> None:
        self._paths = (certificate_file, key_file)
        self._tls = tls
        self._log = log
        self._metrics = metrics
        self._seen: _Versions | None = self._versions()
        try:
            self._activate(self._read())
        except OSError as exc:
            path = exc.filename or certificate_file
            raise ConfigurationError(
                f"{path} cannot be read ({exc.strerror or exc})", fix="Mount the volume there", setting=path
            ) from exc

    async def check(self) -> None:
        """Read the files again if they changed, in a thread because their volume may hang."""
        versions: _Versions | None = None
        try:
            versions = await in_thread(self._paths[0], self._versions)
            if versions == self._seen:
                return
            pair = await in_thread(self._paths[0], self._read)
            self._activate(pair)
            self._seen = versions
        except ConfigurationError as error:
            self._seen = versions
            self._log.error("certificate_rejected", reason=str(error), still_active="the previous certificate")
        except (OSError, FileTimeoutError) as exc:  # the next check tries again, even if the files have not changed
            self._seen = None
            self._log.error("certificate_read_failed", reason=str(exc), still_active="the previous certificate")

    def _versions(self) -> _Versions:
        return tuple(file_version(path) for path in self._paths)

    def _read(self) -> KeyPair:
        return KeyPair(*(_read(path) for path in self._paths))

    def _activate(self, pair: KeyPair) -> None:
        # This check precedes the activation, because OpenSSL accepts certificates that cryptography rejects.
        validity = _validity(pair, self._paths[0])
        self._tls.use(pair)
        self._metrics.certificate = validity
        self._log.info("certificate_activated", source=self._paths[0], expires_at=validity.expires_at.isoformat())


def _validity(pair: KeyPair, path: str) -> Validity:
    try:
        return validity_of(pair)
    except ValueError as exc:
        raise ConfigurationError(
            f"{path} has no certificate that can be read ({exc})", fix="Use a PEM certificate", setting=path
        ) from exc


def _read(path: str) -> bytes:
    content = read_regular_file(path, MAX_FILE_BYTES)
    if not content:
        raise ConfigurationError(
            f"{path} is not a file with a certificate or key in it", fix="Use a PEM file", setting=path
        )
    return content
