"""Compare the errors of STS with botocore: codes, messages and next steps."""

import pytest
from botocore.exceptions import ClientError
from botocore.retries.standard import ThrottledRetryableChecker, TransientRetryableChecker
from hypothesis import given
from hypothesis import strategies as st

from sidecar.errors import ExchangeError, NextStep
from sidecar.sts.errors import NEXT_STEPS, Operation
from sidecar.sts.wire import read_reply
from tests.against.botocore.peer import ROLE_ARN, Botocore, Rendering, broken_replies, renderings, steady

words = st.text(st.characters(exclude_categories=("C", "Z")) | st.just(" "), max_size=79)
"""A Hypothesis strategy for printable strings that are too short to look like a token."""


def render_error(code: str, message: str, shape: str, rendering: Rendering) -> bytes:
    error = rendering.element(
        "Error", rendering.leaf("Type", "Sender"), rendering.leaf("Code", code), rendering.leaf("Message", message)
    )
    request_id = rendering.leaf("RequestId", "c6104cbe")
    if shape == "Response":
        return rendering.document("Response", rendering.element("Errors", error), request_id)
    return rendering.document(shape, error, request_id)


@steady
@given(
    operation=st.sampled_from(Operation),
    code=st.sampled_from(sorted(NEXT_STEPS)) | st.from_regex(r"[A-Z][A-Za-z.]{0,40}", fullmatch=True),
    message=words.filter(str.strip),
    status=st.integers(301, 599),
    shape=st.sampled_from(["ErrorResponse", "Response", "Anything"]),
    rendering=renderings,
)
def test_error_has_botocores_code_and_message(
    peer: Botocore, *, operation: Operation, code: str, message: str, status: int, shape: str, rendering: Rendering
) -> None:
    body = render_error(code, message, shape, rendering)
    with pytest.raises(ClientError) as botocores:
        peer.call(operation, status, body)
    with pytest.raises(ExchangeError) as ours:
        read_reply(status, body, role_arn=ROLE_ARN, operation=operation)
    expected = botocores.value.response["Error"]
    assert (ours.value.code, ours.value.message) == (expected["Code"], expected["Message"].strip())
    assert ours.value.status == botocores.value.response["ResponseMetadata"]["HTTPStatusCode"] == status


@steady
@given(st.integers(300, 599), st.binary(max_size=300) | broken_replies())
def test_any_bytes_with_an_error_status_raise_an_error(status: int, body: bytes) -> None:
    with pytest.raises(ExchangeError) as caught:
        read_reply(status, body, role_arn=ROLE_ARN)
    assert caught.value.status == status
    assert caught.value.message.isprintable()


def test_every_error_of_the_model_has_a_next_step(peer: Botocore) -> None:
    shapes = [shape for operation in Operation for shape in peer.model.operation_model(operation).error_shapes]
    codes = {shape.metadata["error"]["code"] for shape in shapes}
    assert len(codes) == 7
    assert codes <= NEXT_STEPS.keys()


def test_throttling_codes_of_botocore_have_slow_retries() -> None:
    codes = ThrottledRetryableChecker._THROTTLED_ERROR_CODES  # type: ignore[attr-defined] # not in the stubs
    assert {NEXT_STEPS[code] for code in codes} == {NextStep.SLOW_DOWN}


def test_botocores_transient_codes_are_retried() -> None:
    codes = set(TransientRetryableChecker._TRANSIENT_ERROR_CODES)  # type: ignore[attr-defined] # not in the stubs
    throttling = ThrottledRetryableChecker._THROTTLED_ERROR_CODES  # type: ignore[attr-defined] # not in the stubs
    assert {NEXT_STEPS[code] for code in codes - set(throttling)} == {NextStep.RETRY}
