"""
Sign files and statements with cosign, and verify them.

With a key, nothing leaves the machine. Without one, cosign gets a certificate for the identity of the workflow and
records the signature in a public log ("keyless").

Rule: bundles are canonical JSON, so that no byte of them can change without being noticed.
"""

import base64
import hashlib
import json
import os
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from release.oci import encoded
from release.provenance import CYCLONEDX, SLSA, SPDX

SUFFIX = ".sigstore.json"

BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"

TYPES = {SLSA: "slsaprovenance1", SPDX: "spdxjson", CYCLONEDX: "cyclonedx"}
"""Cosign's names for the types of statements."""


@dataclass(frozen=True)
class Signer:
    """Cosign, with the key that signs. Without a key, cosign signs with the identity of the workflow."""

    cosign: Path
    key: Path | None = None

    def sign(self, path: Path) -> None:
        """Write the signature of the file beside it."""
        self._write(_beside(path), "sign-blob", str(path))

    def attest(self, statement: Mapping[str, Any], bundle: Path) -> None:
        """Write the signed statement."""
        with tempfile.NamedTemporaryFile(suffix=".json") as file:
            file.write(encoded(statement))
            file.flush()
            self._write(bundle, "attest-blob", f"--statement={file.name}")

    def run(self, command: str, *arguments: str) -> None:
        """Run a command of cosign that signs."""
        offline = [f"--key={self.key}", "--use-signing-config=false", "--tlog-upload=false"] if self.key else []
        run_cosign(self.cosign, command, "--yes", *offline, *arguments)

    def _write(self, bundle: Path, command: str, *arguments: str) -> None:
        self.run(command, f"--bundle={bundle}", *arguments)
        bundle.write_bytes(encoded(json.loads(bundle.read_bytes())))
        bundle.chmod(0o644)


@dataclass(frozen=True)
class Verifier:
    """Cosign, with the public key or the identity that is trusted."""

    cosign: Path
    trust: tuple[str, ...]
    public_key: Path | None = None

    def verify(self, path: Path) -> None:
        """
        Verify the signature beside the file.

        Raises SigningError if the signature is missing or does not verify.
        """
        bundle = _beside(path)
        if not bundle.exists():
            raise SigningError(f"{bundle.name} is missing")
        run_cosign(self.cosign, "verify-blob", *self.trust, f"--bundle={bundle}", str(path))
        if self.public_key and bundle.read_bytes() != _only_bundle(bundle, path, self.public_key):
            raise SigningError(f"{bundle.name} has more than the signature")

    def verify_statement(self, bundle: Path, sha256: str, predicate_type: str) -> Mapping[str, Any]:
        """
        Verify that a statement of this type is about the digest, and return the statement.

        Raises SigningError if the statement is missing or does not verify.
        """
        if not bundle.exists():
            raise SigningError(f"{bundle.name} is missing")
        claim = [f"--type={TYPES[predicate_type]}", f"--digest={sha256}", "--digestAlg=sha256"]
        run_cosign(self.cosign, "verify-blob-attestation", *self.trust, f"--bundle={bundle}", *claim)
        payload = json.loads(bundle.read_bytes())["dsseEnvelope"]["payload"]
        found: Mapping[str, Any] = json.loads(base64.b64decode(payload))
        return found


def trust_key(cosign: Path, key: Path) -> Verifier:
    """Return a verifier that trusts a public key. The signatures of such a key are not in the public log."""
    return Verifier(cosign, (f"--key={key}", "--insecure-ignore-tlog=true"), key)


def trust_workflow(cosign: Path, identity: str, issuer: str) -> Verifier:
    """Return a verifier that trusts the identity of a workflow."""
    return Verifier(cosign, (f"--certificate-identity={identity}", f"--certificate-oidc-issuer={issuer}"))


def create_keys(cosign: Path, folder: Path) -> None:
    """
    Create `cosign.key` and `cosign.pub` in the folder.

    The password is in COSIGN_PASSWORD, which every signature with this key then needs. By default it is empty.
    """
    run_cosign(cosign, "generate-key-pair", f"--output-key-prefix={folder / 'cosign'}")


def key_hint(public_key: bytes) -> str:
    """Return the hint by which a bundle names the key: the SHA-256 of its DER form."""
    der = load_pem_public_key(public_key).public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(hashlib.sha256(der).digest()).decode()


def run_cosign(cosign: Path, *arguments: str) -> None:
    """
    Run cosign. If COSIGN_PASSWORD is not set, the password of keys is empty, because cosign would ask for it.

    Raises SigningError with cosign's message if cosign fails.
    """
    environment = {"COSIGN_PASSWORD": ""} | os.environ
    done = subprocess.run([cosign, *arguments], env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SigningError(f"cosign {arguments[0]} failed: {done.stderr.strip()}")


class SigningError(Exception):
    """An error for a signature that cannot be created or does not verify."""


def _only_bundle(bundle: Path, path: Path, public_key: Path) -> bytes:
    """Return a bundle with the signature of this bundle. All other fields are derived from the file and the key."""
    signature = json.loads(bundle.read_bytes())["messageSignature"]["signature"]
    digest = base64.b64encode(hashlib.sha256(path.read_bytes()).digest()).decode()
    message = {
        "messageDigest": {"algorithm": "SHA2_256", "digest": digest},
        "signature": base64.b64encode(base64.b64decode(signature)).decode(),
    }
    key = {"publicKey": {"hint": key_hint(public_key.read_bytes())}}
    return encoded({"mediaType": BUNDLE, "verificationMaterial": key, "messageSignature": message})


def _beside(path: Path) -> Path:
    return path.with_name(path.name + SUFFIX)
