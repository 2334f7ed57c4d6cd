"""Define the errors for documents that cannot be read."""


class UnreadableError(ValueError):
    """An error for a YAML document that kubectl cannot read either, or that this program does not support."""

    def __init__(self, problem: str, line: int = 0, at: int | None = None) -> None:
        """Create the error. `line` is counted from 0 in the text. `at` is a position whose line is not known yet."""
        super().__init__(problem)
        self.problem = problem
        self.line = line
        self.at = at


class TooDeepError(UnreadableError):
    """An error for a document with too many levels of nesting."""
