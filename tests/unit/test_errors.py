"""Test the two parts of an error, and the text that a person reads."""

import pytest

from sidecar.errors import (
    ConfigurationError,
    ExchangeError,
    Explanation,
    KubernetesError,
    NextStep,
    TokenError,
    sentences,
)


def test_text_of_an_error_has_problem_and_fix() -> None:
    error = ConfigurationError("A is 'b', which is not c", fix="Give d", setting="A")
    assert str(error) == "A is 'b', which is not c. Give d."
    assert (error.problem, error.fix, error.setting) == ("A is 'b', which is not c", "Give d", "A")
    assert str(error.explanation) == str(error)


def test_text_of_an_error_without_a_fix_is_one_sentence() -> None:
    assert str(ExchangeError("AccessDenied", "Not authorized.", NextStep.WAIT)) == "AccessDenied: Not authorized."
    assert str(KubernetesError("No answer")) == "No answer."


def test_full_stop_is_removed_from_problem_and_fix() -> None:
    error = TokenError("missing", "t does not exist.", "Mount it.")
    assert (error.problem, error.fix, str(error)) == (
        "t does not exist",
        "Mount it",
        "t does not exist. Mount it.",
    )


@pytest.mark.parametrize(
    ("texts", "joined"),
    [
        (("a is not a setting", "Did you mean b?"), "a is not a setting. Did you mean b?"),
        (("a", "", "b"), "a. b."),
        (("", ""), ""),
    ],
)
def test_sentences_adds_only_missing_full_stops(texts: tuple[str, ...], joined: str) -> None:
    assert sentences(*texts) == joined


def test_explanation_shows_the_problem_and_the_fix() -> None:
    assert str(Explanation("A is 'b'")) == "A is 'b'."
    assert str(Explanation("A is 'b'", "Give c")) == "A is 'b'. Give c."
