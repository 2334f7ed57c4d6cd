"""The errors of documents that cannot be read."""


class UnreadableError(ValueError):
    """A YAML document that kubectl would not read either, or that this program does not follow."""

    def __init__(self, problem: str, line: int = 0, at: int | None = None) -> None:
        """`line` counts from 0 within the text that was read. `at` is a place in it whose line is not known yet."""
        super().__init__(problem)
        self.problem = problem
        self.line = line
        self.at = at


class TooDeepError(UnreadableError):
    """A document whose nesting is too deep to walk through."""
