"""Generate faults: broken tokens, clock steps, latencies and damaged responses."""

from functools import partial

from hypothesis import strategies as st

HOUR = 3600.0

breakages = st.one_of(
    st.none(),
    st.floats(0, 1e6),
    st.sampled_from([b"", b" \n", b"a.b.c", b"eyJhbGciOi", b"\xff" * 30, b"x" * 20_001]),
)

spans = st.one_of(
    st.floats(0, 2), st.floats(0, 60), st.floats(0, HOUR / 4), st.sampled_from([1.0, 10.0, 1799.0, 3599.0, 3600.0])
)

steps_of_wall = st.one_of(st.floats(-10, 10), st.floats(-86_400, 86_400), st.sampled_from([7200.0, -7200.0, 3600.0]))

sts_clock_errors = st.one_of(
    st.just(0), st.integers(-90_000, 90_000), st.integers(-300, 300), st.sampled_from([3240, 3600, -3600, 39_600])
)

latencies = st.one_of(st.just(0.0), st.floats(0, 12))


def _without(element: bytes, body: bytes) -> bytes:
    before, _, rest = body.partition(b"<" + element + b">")
    return before + rest.partition(b"</" + element + b">")[2]


def _with(element: bytes, text: bytes, body: bytes) -> bytes:
    before, tag, rest = body.partition(b"<" + element + b">")
    return before + tag + text + b"</" + element + b">" + rest.partition(b"</" + element + b">")[2]


WANTED = (b"AccessKeyId", b"SecretAccessKey", b"SessionToken", b"Expiration", b"Arn")

damaged = st.one_of(
    st.sampled_from(WANTED).map(lambda element: partial(_without, element)),
    st.sampled_from(WANTED).map(lambda element: partial(_with, element, b"  ")),
    st.sampled_from([b"2001-01-01T00:00:00Z", b"9999-12-31T23:59:59Z", b"tomorrow", b"2027-01-15T09:00:00"]).map(
        lambda text: partial(_with, b"Expiration", text)
    ),
    st.sampled_from([b"", b"<html>login</html>", b"{}", b"\x00", b"<!DOCTYPE a><a/>"]).map(lambda text: lambda _: text),
    st.floats(0, 0.99).map(lambda share: lambda body: body[: int(len(body) * share)]),
)
