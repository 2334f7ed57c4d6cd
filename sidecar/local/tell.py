"""Where the local services tell what happens: past-tense events for whoever shows them, and never a secret."""

from typing import Any, Protocol


class Tell(Protocol):
    """Called with an event's name, as `token_renewed`, and what is worth knowing of it."""

    def __call__(self, event: str, /, **fields: Any) -> None: ...
