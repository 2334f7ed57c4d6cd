"""Compare the app ID in our User-Agent with the app ID in botocore's User-Agent."""

import pytest
from botocore.useragent import sanitize_user_agent_string_component
from hypothesis import example, given
from hypothesis import strategies as st

from sidecar.sts.user_agent import MAX_LENGTH, app_id_warning, with_app_id


@given(st.text(max_size=MAX_LENGTH))
@example("shop/cart")
@example("a\r\nAuthorization: b")
@example("caf\u00e9 \u2603")
def test_app_id_is_sanitized_as_botocore_does(app_id: str) -> None:
    botocores = sanitize_user_agent_string_component(app_id, allow_hash=True)
    assert with_app_id("a/1", app_id) == (f"a/1 app/{botocores}" if app_id else "a/1")
    assert (app_id_warning(app_id) is None) == (botocores == app_id)


@pytest.mark.parametrize("app_id", ["a" * 51, "b" * 100_000])
def test_long_app_id_is_cut_with_a_warning(app_id: str) -> None:
    assert with_app_id("a/1", app_id) == f"a/1 app/{app_id[:50]}"
    warning = app_id_warning(app_id)
    assert warning is not None
    assert "50 characters" in warning.fix
    assert len(str(warning)) < 300


def test_user_agent_is_unchanged_without_app_id() -> None:
    assert with_app_id("a/1", None) == "a/1"
