"""
Find labels and annotations that have no effect, and the name that each probably means. Pure.

Rule: the work and the result are bounded, because the API server checks names only after it calls the webhooks. At
most MAX_NAMES names are read, and at most MAX_COMPARED of them are compared letter by letter.
"""

import re
from collections.abc import Collection, Iterable, Iterator
from difflib import SequenceMatcher, get_close_matches
from functools import cache
from itertools import islice
from typing import NamedTuple

MAX_NAME_CHARACTERS = 100
"""Longest name that is compared. Our longest name has 40 characters."""

MAX_NAMES, MAX_COMPARED = 256, 32

PREFIX_RATIO = 0.83
"""
Minimum ratio of difflib for two similar prefixes.

`eks.amazon.com` and `irsa-sidecar.com` are similar to ours. Istio's `sidecar.istio.io`, kube2iam's `iam.amazonaws.com`
and a company's `irsa-sidecar.example.com` are not.
"""

SHORT_RATIO = 0.7
"""Minimum ratio of difflib for two similar names without their prefixes."""

MIN_WORD_CHARACTERS = 3

WHOLE_RATIO = 0.75
"""Minimum ratio of difflib for two similar whole names. Only `nearest` compares whole names."""


class Misnamed(NamedTuple):
    """A name without effect, and the name that it probably means."""

    name: str
    meant: str

    def __str__(self) -> str:
        return f"{self.name} is not read. Did you mean {self.meant}?"


def misnamed(names: Iterable[str], known: Collection[str]) -> Iterator[Misnamed]:
    """Yield the names whose prefix and rest are similar to a known name. All known names share one prefix."""
    prefix = _split(next(iter(known)))[0]
    compared = (name for name in _readable(names, known) if _has_part(_split(name)[0], prefix))
    for name in islice(compared, MAX_COMPARED):
        own, short = _split(name)
        shorts = {_split(each)[1]: each for each in known}
        if _are_alike(own, prefix) and (meant := _closest(short, shorts)):
            yield Misnamed(name, shorts[meant])


def nearest(names: Iterable[str], known: str) -> Misnamed | None:
    """
    Return the name that probably means the missing name `known`, or None.

    A name with the same part after the slash has priority over a name with similar letters.
    """
    others = _readable(names, (known,))
    short = _split(known)[1]
    for name in others:
        if plain(_split(name)[1]) == plain(short):
            return Misnamed(name, known)
    alike = [name for name in others[:MAX_COMPARED] if _may_mean(_split(name)[1], short)]
    found = get_close_matches(known, alike, n=1, cutoff=WHOLE_RATIO)
    return Misnamed(found[0], known) if found else None


def plain(text: str) -> str:
    """Return the text in lower case and without `-`, `_` and `.`, because people confuse these details."""
    return re.sub(r"[^a-z0-9]+", "", text.lower())


def _readable(names: Iterable[str], known: Collection[str]) -> list[str]:
    return [name for name in islice(names, MAX_NAMES) if name not in known and len(name) <= MAX_NAME_CHARACTERS]


def _split(name: str) -> tuple[str, str]:
    prefix, _, short = name.rpartition("/")
    return prefix, short


def _has_part(text: str, known: str) -> bool:
    """Return whether the text contains a word of `known`, except short ones such as `io`."""
    lower = text.lower()
    return any(word in lower for word in _words(known))


@cache
def _words(known: str) -> tuple[str, ...]:
    """Return the words of a known name that are not short. The cache is bounded, because we define these names."""
    return tuple(word for word in re.split(r"\W", known) if len(word) >= MIN_WORD_CHARACTERS)


def _may_mean(short: str, known: str) -> bool:
    return _has_part(short, known) or SequenceMatcher(None, short.lower(), known).ratio() >= SHORT_RATIO


def _are_alike(prefix: str, known: str) -> bool:
    return plain(prefix) == plain(known) or SequenceMatcher(None, prefix.lower(), known).ratio() >= PREFIX_RATIO


def _closest(short: str, shorts: Collection[str]) -> str | None:
    same = [each for each in shorts if plain(each) == plain(short)]
    return next(iter(same or get_close_matches(short, shorts, n=1, cutoff=SHORT_RATIO)), None)
