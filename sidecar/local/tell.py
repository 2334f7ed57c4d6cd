"""Where the local services tell what happens, for whoever shows it: past-tense events, and never a secret in a field."""

from typing import Any, Protocol


class Tell(Protocol):
    """Called with an event's name, as `token_renewed`, and what is worth knowing of it."""

    def __call__(self, event: str, /, **fields: Any) -> None: ...
