"""
Where a client cannot do what a case wants: its own limit, what happens instead, and where that is written.

A test shows each limit as it happens, so that a release that mends one is noticed; and where a setting helps, that it
does. They are the footnotes of docs/sdks.md.
"""

from dataclasses import dataclass, field

from tests.sdk.stage import VARIABLE, Remedy


@dataclass(frozen=True, slots=True)
class Limit:
    """
    `client` fails in `case`, and `happens` is in what it says or does then.

    `remedy` holds variables with which the case is passed all the same; None takes one away.
    """

    case: str
    client: str
    happens: str
    note: str
    source: str
    remedy: Remedy = field(default_factory=dict)


_BOTOCORE = "https://github.com/boto/botocore/blob/1.29.27/botocore"
_JAVASCRIPT_2 = "https://github.com/aws/aws-sdk-js/blob/v2.1693.0/lib/credentials/remote_credentials.js"
_MINIO = "https://github.com/minio/minio-go/blob/v7.4.1/pkg/credentials/iam_aws.go"
_OBJECT_STORE = "https://docs.rs/crate/object_store/0.14.2/source/src/aws/builder.rs"
_VARIABLE_WINS = (
    "The variable wins over the file, and a running process keeps it. Where secrets rotate, set only the file."
)

LIMITS = (
    Limit(
        "first credentials",
        "object_store",
        "/latest/api/token",
        "It passes over the URL unless `AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE` is set too, and asks the metadata "
        "service of EC2. Set the file even where no secret is asked for.",
        _OBJECT_STORE,
    ),
    Limit(
        "secret by variable",
        "object_store",
        "/latest/api/token",
        "The same: the variable alone is not enough. Set the file.",
        _OBJECT_STORE,
    ),
    Limit(
        "secret by file",
        "boto3_debian12",
        "No Authorization header",
        "botocore before 1.32 does not know the file. Set `AWS_CONTAINER_AUTHORIZATION_TOKEN` as well.",
        f"{_BOTOCORE}/credentials.py",
    ),
    Limit(
        "sidecar restarted",
        "boto3_debian12",
        "No Authorization header",
        "botocore before 1.32 does not know the file, and a variable cannot change while it runs. Restart it with the "
        "sidecar.",
        f"{_BOTOCORE}/credentials.py",
    ),
    Limit(
        "secret rotated",
        "boto3_debian12",
        "The Authorization header is wrong",
        "It knows only the variable, which a running process keeps. Restart it after a rotation.",
        f"{_BOTOCORE}/credentials.py",
    ),
    Limit(
        "secret rotated",
        "javascript_v2",
        "statusCode: 403",
        _VARIABLE_WINS,
        _JAVASCRIPT_2,
        {VARIABLE: None},
    ),
    Limit(
        "secret rotated",
        "java_v2",
        "The Authorization header is wrong",
        _VARIABLE_WINS,
        "https://github.com/aws/aws-sdk-java-v2/blob/2.57.8/core/auth/src/main/java/software/amazon/awssdk/auth/"
        "credentials/ContainerCredentialsProvider.java",
        {VARIABLE: None},
    ),
    Limit(
        "secret rotated",
        "java_v1",
        "The Authorization header is wrong",
        _VARIABLE_WINS,
        "https://github.com/aws/aws-sdk-java/blob/1.12.797/aws-java-sdk-core/src/main/java/com/amazonaws/auth/"
        "ContainerCredentialsProvider.java",
        {VARIABLE: None},
    ),
    Limit(
        "slow start",
        "minio_go",
        "503 Service Unavailable",
        "It asks once. Start it when the sidecar is ready: a native sidecar with a startup probe sees to that.",
        _MINIO,
    ),
    Limit(
        "refusal shown",
        "javascript_v3",
        "Could not load credentials from any providers",
        "The chain puts *Could not load credentials from any providers* in place of what its providers say.",
        "https://github.com/aws/aws-sdk-js-v3/issues/4989",
    ),
    Limit(
        "refusal shown",
        "javascript_v2",
        "Could not load credentials from any providers",
        "It drops an error's body, and its chain says *Could not load credentials from any providers*.",
        _JAVASCRIPT_2,
    ),
    Limit(
        "refusal shown",
        "go_v1",
        "NoCredentialProviders: no valid providers in chain. Deprecated.",
        "The chain says *NoCredentialProviders* unless the program sets `aws.Config.CredentialsChainVerboseErrors`.",
        "https://github.com/aws/aws-sdk-go/blob/v1.55.8/aws/credentials/chain_provider.go",
    ),
    Limit(
        "refusal shown",
        "java_v2",
        "ContainerCredentialsProvider(): Failed to load credentials from metadata service.",
        "The chain tells its providers' messages without their causes: *Failed to load credentials from metadata "
        "service*. Once it has had credentials, a later failure shows the reason.",
        "https://github.com/aws/aws-sdk-java/issues/3160",
    ),
    Limit(
        "refusal shown",
        "rust",
        "Non-success status from HTTP credential provider: StatusCode(503)",
        "It drops an error's body: *Non-success status from HTTP credential provider*.",
        "https://docs.rs/crate/aws-config/1.13.0/source/src/http_credential_provider.rs",
    ),
    Limit(
        "refusal shown",
        "minio_go",
        "503 Service Unavailable",
        "It drops an error's body: *503 Service Unavailable*.",
        _MINIO,
    ),
    Limit(
        "IPv6",
        "boto3_debian12",
        "Unsupported host '::1'",
        "Of loopback it takes only `127.0.0.1` and `localhost` over plain HTTP.",
        f"{_BOTOCORE}/utils.py",
    ),
    Limit(
        "IPv6",
        "javascript_v2",
        "Could not load credentials from any providers",
        "Of loopback it takes only `127.0.0.1` and `localhost` over plain HTTP.",
        _JAVASCRIPT_2,
    ),
    Limit(
        "proxy set",
        "rust",
        "the proxy was asked",
        "Since `BehaviorVersion` v2025-08-07 its HTTP client takes proxies from the environment, for this request too. "
        "Set `NO_PROXY=127.0.0.1`.",
        "https://docs.rs/crate/aws-smithy-runtime/1.16.2/source/src/client/http.rs",
        {"NO_PROXY": "127.0.0.1"},
    ),
    Limit(
        "proxy set",
        "object_store",
        "the proxy was asked",
        "Its HTTP client, reqwest, takes proxies from the environment, for this request too. Set `NO_PROXY=127.0.0.1`.",
        "https://github.com/apache/arrow-rs-object-store/issues/473",
        {"NO_PROXY": "127.0.0.1"},
    ),
)

NUMBERS = {(limit.client, limit.case): number for number, limit in enumerate(LIMITS, 1)}
"""The footnote of a client's limit in a case."""


def limit_of(client: str, case: str) -> Limit | None:
    number = NUMBERS.get((client, case))
    return None if number is None else LIMITS[number - 1]
