"""
Provide the inputs for a fuzzer: small files, and mutations that often break parsers.

A file that once caused a failure stays in the corpus, under a name that describes it.
"""

import random
from pathlib import Path

from tests.fuzz.documents import mutated_document

CORPUS = Path(__file__).parent / "corpus"

SPLICES = {
    "http": (
        b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b":", b"\x80", b"\r\n ", b"\r\n\r\n", b"Host: a\r\n",
        b"Content-Length: 0\r\n", b"Content-Length: 7\r\n", b"Transfer-Encoding: chunked\r\n",
        b"Authorization: s3cr3t-of-the-endpoint\r\n", b"HTTP/1.0", b"HTTP/2.0", b"POST", b"/v1/credentials", b"//",
        b"?",
    ),
    "imds": (
        b"\r\n", b"\n", b"\0", b" ", b"\t", b":", b"\r\n ", b"\r\n\r\n", b"Content-Length: 0\r\n",
        b"Content-Length: 7\r\n", b"Transfer-Encoding: chunked\r\n", b"X-Forwarded-For: a\r\n", b"GET", b"PUT",
        b"/latest/api/token", b"/latest/meta-data/iam/security-credentials/app", b"//", b"/",
        b"X-aws-ec2-metadata-token: ", b"X-aws-ec2-metadata-token-ttl-seconds: 60\r\n", b"21600", b"-1", b"0",
    ),
    "sts": (
        b"<", b">", b"</", b"/>", b"<!--", b"-->", b"<![CDATA[", b"]]>", b"&amp;", b"&#0;", b"&#x41;", b"<?xml ?>",
        b"<!DOCTYPE a>", b"<Credentials>", b"</Credentials>", b"<AccessKeyId>", b"\0", b"\xff\xfe", b"\xef\xbb\xbf",
        b' xmlns="x"', b"Z", b"+00:00", b".5", b"9999",
    ),
    "roles": (
        b"\n", b"\r", b"\t", b"\0", b"  ", b"- ", b": ", b"{", b"}", b"[", b"]", b",", b"'", b'"', b"|\n", b">\n",
        b"&a ", b"*a ", b"<<: *a\n", b"? ", b"!!int ", b"!!binary ", b"!!set ", b"%YAML 9.9\n", b"---\n", b"...\n",
        b"#", b"\\UFFFFFFFF", b"\\ud800", b"\xff\xfe", b"\xef\xbb\xbf", b"~", b"1e400", b"0x", b"1:60:60", b"policy: ",
        b"chain: ", b"tags: ",
    ),
    "local_config": (
        b"\n", b"\r", b"\t", b"\0", b"  ", b"- ", b": ", b"{", b"}", b"[", b"]", b",", b"'", b'"', b"|\n", b"&a ",
        b"*a ", b"<<: *a\n", b"? ", b"!!int ", b"!!float ", b"!!timestamp ", b"!!omap ", b"---\n", b"#", b"\\UFFFFFFFF",
        b"\\ud800", b"\xff\xfe", b"\xef\xbb\xbf", b"~", b"1e400", b"9" * 5000, b"1:60:60", b"Statement: ",
        b"Condition: ", b"http://[",
    ),
}  # fmt: skip

DOCUMENTS = frozenset({"roles", "local_config"})
"""The corpora with YAML documents. Half of their mutations change the structure (documents.py)."""


def seeds(name: str) -> dict[str, bytes]:
    """Return the content of each file in one corpus, by the file's name, in sorted order."""
    return {path.name: path.read_bytes() for path in sorted((CORPUS / name).iterdir())}


def mutated(data: bytes, name: str, others: list[bytes], chance: random.Random) -> bytes:
    """Return the input with one to four changes of its bytes. Half of the calls change a YAML document's structure."""
    if name in DOCUMENTS and chance.random() < 0.5:
        return mutated_document(data, chance)
    for _ in range(chance.randint(1, 4)):
        start = chance.randrange(len(data) + 1)
        end = min(len(data), start + chance.choice([0, 0, 1, 2, 8, 64]))
        change = chance.randrange(5)
        if change == 0:
            data = data[:start] + chance.randbytes(end - start) + data[end:]
        elif change == 1:
            data = data[:start] + data[end:]
        elif change == 2:
            data = data[:end] + data[start:]
        elif change == 3:
            data = data[:start] + chance.choice(SPLICES[name]) + data[end:]
        else:
            other = chance.choice(others)
            data = data[:start] + other[chance.randrange(len(other) + 1) :]
    return data
