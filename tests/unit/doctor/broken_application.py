"""The table of broken applications: variables, files, endpoint and secret. Doctor must report each fault first."""

from tests.unit.doctor.breakages import (
    Broken,
    another_secret,
    application_with,
    credentials_body,
    credentials_file_in_the_image,
    old_sdk_in_the_image,
    on_the_port,
    process_in_the_configuration,
    secret_ends_in_a_newline,
    secret_is_not_mounted,
    unusual_loopback_address,
    wrong_path,
)

BROKEN_APPLICATION = (
    # the fault, the function that causes it, the check that finds it, and words from the headline
    Broken(
        "static keys in addition to the endpoint",
        application_with(AWS_ACCESS_KEY_ID="AKIA"),
        "environment.keys",
        "AWS_ACCESS_KEY_ID is set",
    ),
    Broken(
        "a web identity in addition to the endpoint",
        application_with(AWS_WEB_IDENTITY_TOKEN_FILE="/token", AWS_ROLE_ARN="arn:aws:iam::111122223333:role/app"),
        "environment.web_identity",
        "AWS_WEB_IDENTITY_TOKEN_FILE is set",
    ),
    Broken(
        "a profile in addition to the endpoint",
        application_with(AWS_PROFILE="dev"),
        "environment.profile",
        "AWS_PROFILE is 'dev'",
    ),
    Broken(
        "an ECS address in addition to the endpoint",
        application_with(AWS_CONTAINER_CREDENTIALS_RELATIVE_URI="/v2"),
        "environment.relative_uri",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI is set",
    ),
    Broken(
        "a credentials file in the image",
        credentials_file_in_the_image,
        "environment.files",
        ".aws/credentials sets aws_access_key_id in the default profile",
    ),
    Broken(
        "a credential process in the image",
        process_in_the_configuration,
        "environment.files",
        "config sets credential_process in the default profile",
    ),
    Broken(
        "Pod Identity's address",
        application_with(AWS_CONTAINER_CREDENTIALS_FULL_URI="http://169.254.170.23/v1/credentials"),
        "endpoint.address",
        "is the address of EKS Pod Identity",
    ),
    Broken(
        "a Service's name as address",
        application_with(AWS_CONTAINER_CREDENTIALS_FULL_URI="http://irsa.default.svc:4772/v1/credentials"),
        "endpoint.address",
        "http://irsa.default.svc:4772/v1/credentials is not on loopback",
    ),
    Broken(
        "an unusual loopback address", unusual_loopback_address, "endpoint.address", "over plain http SDKs reject 127.1"
    ),
    Broken(
        "a secret that is not mounted",
        secret_is_not_mounted,
        "endpoint.secret",
        "missing-secret cannot be used: No such file or directory",
    ),
    Broken("a secret with a newline", secret_ends_in_a_newline, "endpoint.secret", "authorization ends in a newline"),
    Broken(
        "two different secrets",
        application_with(AWS_CONTAINER_AUTHORIZATION_TOKEN="another-secret"),
        "endpoint.secret",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN and",
    ),
    Broken(
        "no secret",
        application_with(AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE=None),
        "endpoint.credentials",
        "the endpoint returns 401: No Authorization header",
    ),
    Broken(
        "another Pod's secret",
        another_secret,
        "endpoint.credentials",
        "the endpoint returns 403: The Authorization header is wrong",
    ),
    Broken(
        "the path of an unknown role",
        wrong_path,
        "endpoint.credentials",
        "the endpoint returns 404: No role is served on this path",
    ),
    Broken(
        "no running sidecar",
        application_with(AWS_CONTAINER_CREDENTIALS_FULL_URI="http://127.0.0.1:1/v1/credentials"),
        "endpoint.connection",
        "no process listens at http://127.0.0.1:1/v1/credentials",
    ),
    Broken(
        "a web page on the port",
        on_the_port(200, b"<html>", "text/html"),
        "endpoint.credentials",
        "the endpoint returns 200 with a body that is not a JSON object",
    ),
    Broken(
        "incomplete credentials on the port",
        on_the_port(200, credentials_body(3600, Token=None)),
        "endpoint.credentials",
        "the endpoint's response lacks Token",
    ),
    Broken(
        "a UTC offset in Expiration",
        on_the_port(200, credentials_body(3600, Expiration="2030-01-02T03:04:05+00:00")),
        "endpoint.credentials",
        "Expiration is '2030-01-02T03:04:05+00:00'",
    ),
    Broken(
        "expired credentials on the port",
        on_the_port(200, credentials_body(-60)),
        "endpoint.remaining",
        "the served credentials expired at",
    ),
    Broken(
        "an old SDK in the image",
        old_sdk_in_the_image,
        "sdks.versions",
        "is too old to read the endpoint's secret from a file",
    ),
)
