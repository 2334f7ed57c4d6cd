"""
Check docs/troubleshooting.md: its headings are messages that exist, and each entry has a fix.

Rule: a message of ours must be in the source. A message of AWS, Kubernetes or an SDK is listed here.
"""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from tests.docs.test_links import ROOT

PAGE = ROOT / "docs/troubleshooting.md"

FOREIGN = {
    "`Unable to locate credentials`": "botocore",
    "`NoCredentialProviders: no valid providers in chain`": "aws-sdk-go",
    "`no EC2 IMDS role found`": "aws-sdk-go-v2",
    "`Could not load credentials from any providers`": "aws-sdk-js-v3",
    "`Unable to load credentials from any of the providers in the chain`": "aws-sdk-java-v2",
    "`Error when retrieving credentials from container-role`": "botocore",
    "`WebIdentityErr: failed to retrieve credentials`": "aws-sdk-go",
    "`You must specify a region`": "botocore",
    "`connection refused` at `127.0.0.1:4772`": "the kernel",
    "`Unsupported host`": "botocore",
    "`ExpiredToken`": "STS",
    "`The security token included in the request is invalid`": "STS",
    "`is not authorized to perform` with the node's role": "IAM",
    "`is not authorized to perform` with the role of the Pod": "IAM",
    "`Cannot change principals during re-authentication`": "Amazon MSK",
    "`SignatureDoesNotMatch`": "IAM",
    "`Not authorized to perform sts:AssumeRoleWithWebIdentity`": "STS",
    "`with an explicit deny in a service control policy`": "IAM",
    "`An error occurred (InvalidIdentityToken)`": "botocore",
    "`No OpenIDConnect provider found`": "STS",
    "`Incorrect token audience`": "STS",
    "`The web identity token provided could not be validated`": "STS",
    "`Couldn't retrieve verification key from your identity provider`": "STS",
    "`IDPCommunicationError`": "STS",
    "`OpenIDConnect provider's HTTPS certificate doesn't match configured thumbprint`": "STS",
    "`Token expired`": "STS",
    "`Token issued in the future`": "STS",
    "`Request ARN is invalid`": "STS",
    "`The requested DurationSeconds exceeds the MaxSessionDuration set for this role`": "STS",
    "`Rate exceeded`": "STS",
    "`STS is not activated in this region`": "STS",
    "`PackedPolicyTooLarge`": "STS",
    "`is not authorized to perform: sts:AssumeRole`": "IAM",
    "`is not authorized to perform: sts:TagSession`": "IAM",
    "`Cannot exceed quota for ACLSizePerRole: 2048`": "IAM",
    "`Init:0/1`": "kubectl",
    "`Startup probe failed: irsa-sidecar: not ready`": "the kubelet",
    "`Init:ImagePullBackOff`": "kubectl",
    "`Init:CrashLoopBackOff`": "kubectl",
    "`PostStartHookError`": "the kubelet",
    "`OOMKilled`": "the kubelet",
    "`InitContainerRestartPolicyForbidden`": "the kubelet",
    "`must specify limits.cpu for: irsa-sidecar`": "the API server",
    "`minimum memory usage per Container is`": "the API server",
    "`unable to validate against any security context constraint`": "OpenShift",
    "`ValidatingAdmissionPolicy 'irsa-sidecar-`": "the API server",
    '`failed calling webhook "inject.irsa-sidecar.io"`': "the API server",
    "`CERTIFICATE_VERIFY_FAILED`": "OpenSSL",
}
"""The headings whose message is not ours, with the program that prints the message."""

_LABEL = re.compile(r"^- \*\*(.+?):\*\*", re.MULTILINE)
_TABLE = re.compile(r"^\| the message continues with \| (?:go to|cause and fix) \|", re.MULTILINE)
"""The header of a table with a cause and a fix for each continuation of a message."""

_VARYING = re.compile(r"'[^']*'|…|\b\d{4}\b|\.io\b|\b[A-Z]+_\w+|partition aws\b|oidc\.eks\.|/\.well-known\S*")
"""The pattern for values in a message: quoted text, ports, names of settings, hosts and paths."""

_HEADING = re.compile(r"^### (.+)$", re.MULTILINE)


def entries() -> dict[str, str]:
    """Return the text of each entry by its heading."""
    pieces = _HEADING.split(PAGE.read_text(encoding="utf-8"))
    return {
        heading: re.split(r"^## ", text, flags=re.MULTILINE)[0]
        for heading, text in zip(pieces[1::2], pieces[2::2], strict=True)
    }


@cache
def our_texts() -> str:
    """Return every string of the program, one per line. Adjacent literals are one string."""
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in Path(ROOT / "sidecar").rglob("*.py")]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    return "\n".join(node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str))


def parts(heading: str) -> list[str]:
    """Return the parts of a message that do not vary."""
    return [part.strip() for part in _VARYING.split(heading.strip("`")) if len(part.strip()) > 2]


@pytest.mark.parametrize("heading", [heading for heading in entries() if heading not in FOREIGN])
def test_our_message_is_in_the_source(heading: str) -> None:
    for part in parts(heading):
        assert part in our_texts()


def test_every_listed_message_is_a_heading() -> None:
    assert set(FOREIGN) <= set(entries())


@pytest.mark.parametrize("heading", entries())
def test_entry_has_cause_check_and_fix(heading: str) -> None:
    found = {word for label in _LABEL.findall(entries()[heading]) for word in re.findall(r"[a-z]+", label.lower())}
    assert found >= {"cause", "check", "fix"} or _TABLE.search(entries()[heading])


def test_page_has_the_messages_that_people_search_for() -> None:
    headings = "\n".join(entries())
    for message in (
        "Unable to locate credentials",
        "ExpiredToken",
        "Not authorized to perform sts:AssumeRoleWithWebIdentity",
        "Init:0/1",
        "No OpenIDConnect provider found",
        "An error occurred (InvalidIdentityToken)",
    ):
        assert message in headings
    assert len(entries()) >= 18
