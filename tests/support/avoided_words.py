"""
List words and forms that this project does not use, each with its plain replacement. Pure.

Rule: a form is in the list only if nearly every match is wrong, because a match fails `make lint`. A word that also has
a plain use ("give", "make", "told") is listed only in the forms that are wrong.
"""

import re
from typing import NamedTuple


class Avoided(NamedTuple):
    """A form to avoid, as a regular expression over text with single spaces, and the words to use instead."""

    pattern: str
    use: str


_BE = "(?:is|are|was|were|be|been|being)"
_OBJECT = "(?:Pod|Secret|ConfigMap|Namespace|ServiceAccount|key|bucket|directory|certificate|cluster|container)"
_PLAIN_AFTER_NO = "(?:longer|more|less|fewer|later|earlier|use|such)"

AVOIDED = (
    Avoided("anew|once more", "again"),
    Avoided("in place of", "instead of"),
    Avoided("to be had", "available"),
    Avoided("in vain", "without success"),
    Avoided("pass(?:es|ed|ing)? (?:it |them |this |that |those )?over", "ignore, skip"),
    Avoided("hand(?:s|ed|ing)?[ -]outs?", "serve, return"),
    Avoided("g(?:ive|ives|iven|ave|iving) (?:it |them |one |none )?out", "serve, return"),
    Avoided("turn(?:s|ed|ing)? (?:it |them )?away", "reject"),
    Avoided("who(?:ever)? asks|askers?", "client, caller, peer"),
    Avoided("(?:stands?|stood) in(?! for)", "is in"),
    Avoided("stands (?:there|here|behind|before|between|beside)", "is, precedes, follows"),
    Avoided("by itself", "automatically; alone"),
    Avoided("go(?:es)? by", "use, follow"),
    Avoided("(?:one that|what) there is", "an existing X"),
    Avoided(f"(?<!there )(?<!here )(?:is|are) no (?!{_PLAIN_AFTER_NO}\\b)[a-z]+", "is not a, is an invalid, lacks"),
    Avoided("walls? off|walled off", "isolates, protects"),
    Avoided("the way to STS", "the network path to STS"),
    Avoided("ails|troubles?", "error, problem"),
    Avoided("mend(?:s|ed|ing)?|made right", "fix"),
    Avoided("look(?:s|ed|ing)? at|a look", "check, read, poll"),
    Avoided(f"{_BE} (?:not |only |also |never )?(?:told|said)", "log, report, return, show"),
    Avoided("told of|told otherwise|tells of", "report, configured otherwise"),
    Avoided("hears? of|heard of", "detect, receive"),
    Avoided(f"(?<!you ){_BE} asked", "is called, is requested"),
    Avoided("ask(?:s|ed|ing)? (?:STS|AWS|IAM|the API server)", "call, request, query"),
    Avoided("(?:that|it|sets?|credentials|tokens?|sessions?) lives?(?! (?:in|on|at|under|outside)\\b)", "is valid"),
    Avoided("(?:living|dying|dead) sets?", "valid credentials, expired credentials"),
    Avoided("sets? of credentials", "credentials"),
    Avoided("(?:sets?|tokens?|sessions?|credentials) (?:ends?|(?:has|have) ended)", "expire"),
    Avoided("the end of (?:a|the|its|each) (?:set|token|session)", "the expiration of"),
    Avoided("(?:until|to|before|past|after) its end", "until it expires"),
    Avoided(f"{_BE} well(?=[.,;:)]|$| again| for| but)", "is healthy, is correct"),
    Avoided(f"ma(?:ke|kes|de|king) (?:an?|no|each|another) {_OBJECT}(?=[.,;:)]| (?:for|in|of|with|by)\\b)", "create"),
    Avoided("what (?:is|are) to be", "the X that …"),
    Avoided("(?<=, )as (?:there (?:is|are|was|were)|nothing|nobody|everything)", "because"),
    Avoided("lest|for want of|wherein|whereof|therein|thereof|thereto", "plain words"),
)
"""Every form to avoid, with the words to use instead."""

_STARTS = re.compile(r"(?:What|Whatever|Who|Whoever|Whether|Where|Of|As|So|By(?! default)) ")

_RAISES = re.compile(r"(?<=\S )Raises\s+\w+")

_COMPILED = [(re.compile(rf"\b(?:{avoided.pattern})\b", re.IGNORECASE), avoided.use) for avoided in AVOIDED]


class Match(NamedTuple):
    """A form that was found: its offset in the text, its words, and the words to use instead."""

    offset: int
    words: str
    use: str


def avoided_in(text: str) -> list[Match]:
    """Return the avoided forms in a text with single spaces, in the order of the text."""
    found = [Match(match.start(), match[0], use) for pattern, use in _COMPILED for match in pattern.finditer(text)]
    return sorted(found)


def docstring_start(text: str) -> Match | None:
    """Return the first word of a docstring if the word makes the summary a clause."""
    match = _STARTS.match(text)
    return Match(0, match[0].strip(), "a summary that starts with a verb or a noun") if match else None


def raises_within_line(text: str) -> Match | None:
    """Return the `Raises X` of a docstring that does not start a separate line."""
    match = _RAISES.search(text)
    return Match(match.start(), " ".join(match[0].split()), "the same sentence on a line of its own") if match else None
