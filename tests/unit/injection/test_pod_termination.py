"""Test the time for which a terminating Pod has credentials."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.injection.pod_termination import outlives_its_credentials, served_while_terminating_seconds


@pytest.mark.parametrize(
    ("grace", "token", "session", "outlives"),
    [
        (30, 86_400, 3600, False),
        (20_880, 86_400, 3600, False),
        (20_881, 86_400, 3600, True),
        (86_400, 86_400, 43_200, True),
        (43_200, 86_400, 43_200, False),
        (4320, 3600, 3600, False),
        (4321, 3600, 3600, True),
        (1021, 600, 900, True),
        (0, 600, 900, False),
    ],
)
def test_grace_period_is_compared_with_token_and_session(
    grace: float, token: float, session: float, *, outlives: bool
) -> None:
    assert outlives_its_credentials(grace, token, session) is outlives


@given(token=st.integers(600, 2**32), session=st.integers(900, 43_200))
def test_longer_tokens_and_sessions_never_shorten_the_time(token: int, session: int) -> None:
    served = served_while_terminating_seconds(token, session)
    assert served >= session
    assert served_while_terminating_seconds(token + 1, session) > served
    assert served_while_terminating_seconds(token, session + 1) > served
