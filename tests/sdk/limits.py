"""
List the limits of clients: a case that a client cannot pass, the actual result, and the source.

A test shows that each limit still exists, so the test fails when a release of the client removes the limit. The test
also shows that each remedy works. The limits are the footnotes of docs/sdks.md.
"""

from dataclasses import dataclass, field

from tests.sdk.stage import VARIABLE, Remedy


@dataclass(frozen=True, slots=True)
class Limit:
    """
    A limit of `client` in `case`. `happens` is a part of the actual result.

    With the variables in `remedy` the case passes. None removes a variable.
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
    "The SDK prefers `AWS_CONTAINER_AUTHORIZATION_TOKEN` to the file, and a variable cannot change in a running "
    "process. If secrets rotate, set only `AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE`."
)

LIMITS = (
    Limit(
        "first credentials",
        "object_store",
        "/latest/api/token",
        "Without `AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE`, the client ignores the URL and calls EC2's metadata "
        "service. Set this variable even if no secret is required.",
        _OBJECT_STORE,
    ),
    Limit(
        "secret by variable",
        "object_store",
        "/latest/api/token",
        "Without `AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE`, the client ignores the URL. Set this variable.",
        _OBJECT_STORE,
    ),
    Limit(
        "secret by file",
        "boto3_debian12",
        "No Authorization header",
        "botocore before 1.32 does not read the file. Set `AWS_CONTAINER_AUTHORIZATION_TOKEN` as well.",
        f"{_BOTOCORE}/credentials.py",
    ),
    Limit(
        "sidecar restarted",
        "boto3_debian12",
        "No Authorization header",
        "botocore before 1.32 does not read the file, and the variable cannot change in a running process. Restart the "
        "application together with the sidecar.",
        f"{_BOTOCORE}/credentials.py",
    ),
    Limit(
        "secret rotated",
        "boto3_debian12",
        "The Authorization header is wrong",
        "botocore before 1.32 does not read the file, and the variable cannot change in a running process. Restart the "
        "application after a rotation.",
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
        "The client does not retry. Start the application after the sidecar is ready: a native sidecar with a startup "
        "probe ensures this order.",
        _MINIO,
    ),
    Limit(
        "refusal shown",
        "javascript_v3",
        "Could not load credentials from any providers",
        "The SDK shows *Could not load credentials from any providers* instead of the error of each provider.",
        "https://github.com/aws/aws-sdk-js-v3/issues/4989",
    ),
    Limit(
        "refusal shown",
        "javascript_v2",
        "Could not load credentials from any providers",
        "The SDK ignores the body of the error, and shows *Could not load credentials from any providers*.",
        _JAVASCRIPT_2,
    ),
    Limit(
        "refusal shown",
        "go_v1",
        "NoCredentialProviders: no valid providers in chain. Deprecated.",
        "The SDK shows *NoCredentialProviders* unless the program sets `aws.Config.CredentialsChainVerboseErrors`.",
        "https://github.com/aws/aws-sdk-go/blob/v1.55.8/aws/credentials/chain_provider.go",
    ),
    Limit(
        "refusal shown",
        "java_v2",
        "ContainerCredentialsProvider(): Failed to load credentials from metadata service.",
        "The SDK shows the message of each provider without the cause: *Failed to load credentials from metadata "
        "service*. A failure after the first credentials shows the reason.",
        "https://github.com/aws/aws-sdk-java/issues/3160",
    ),
    Limit(
        "refusal shown",
        "rust",
        "Non-success status from HTTP credential provider: StatusCode(503)",
        "The SDK ignores the body of the error: *Non-success status from HTTP credential provider*.",
        "https://docs.rs/crate/aws-config/1.13.0/source/src/http_credential_provider.rs",
    ),
    Limit(
        "refusal shown",
        "minio_go",
        "503 Service Unavailable",
        "The client ignores the body of the error: *503 Service Unavailable*.",
        _MINIO,
    ),
    Limit(
        "IPv6",
        "boto3_debian12",
        "Unsupported host '::1'",
        "Without TLS, the SDK accepts only `127.0.0.1` and `localhost`.",
        f"{_BOTOCORE}/utils.py",
    ),
    Limit(
        "IPv6",
        "javascript_v2",
        "Could not load credentials from any providers",
        "Without TLS, the SDK accepts only `127.0.0.1` and `localhost`.",
        _JAVASCRIPT_2,
    ),
    Limit(
        "proxy set",
        "rust",
        "the proxy got a request",
        "Since `BehaviorVersion` v2025-08-07, the SDK also sends this request to the proxy in the environment. "
        "Set `NO_PROXY=127.0.0.1`.",
        "https://docs.rs/crate/aws-smithy-runtime/1.16.2/source/src/client/http.rs",
        {"NO_PROXY": "127.0.0.1"},
    ),
    Limit(
        "proxy set",
        "object_store",
        "the proxy got a request",
        "The HTTP library reqwest also sends this request to the proxy in the environment. Set `NO_PROXY=127.0.0.1`.",
        "https://github.com/apache/arrow-rs-object-store/issues/473",
        {"NO_PROXY": "127.0.0.1"},
    ),
)

NUMBERS = {(limit.client, limit.case): number for number, limit in enumerate(LIMITS, 1)}
"""The footnote number of each limit, by client and case."""


def limit_of(client: str, case: str) -> Limit | None:
    number = NUMBERS.get((client, case))
    return None if number is None else LIMITS[number - 1]
