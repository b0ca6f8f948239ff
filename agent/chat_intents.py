"""What a question is about, by its words. Pure; the first row that matches decides."""

import difflib
import re
import unicodedata

from agent.chat_topics import asked_parameter
from agent.chat_wordings import WORDINGS, Intent

_COMPILED = tuple((intent, re.compile("|".join(wordings))) for intent, wordings in WORDINGS)
_SPELT = """
    wrong status problem happened diagnosis cause healthy memory biggest largest prefix prefixes
    evidence confident confidence certain approve approved rejected approval timeline changed
    changes measured ruled alternatives safe risk rollback plan remediate clients connected latency
    errors streams replication replicas persistence fragmentation eviction evicted expire expired
    incidents incident maxmemory version uptime commands summary compare different dangerous restart
    configuration setting overview explain meaning
"""
_KEYWORDS = frozenset(_SPELT.split())
"""Spellings that a slip of the finger is taken back to."""
_ALSO_RIGHT = """
    when what where which that this then them they with were will does have time rate state safer
    large larger change changing server sever client connect error stream replica cluster expires
    expiring settings measure causes caused plans risks keys mean means causing because happens
"""
_RIGHT = frozenset(_ALSO_RIGHT.split()) | _KEYWORDS
_WORD = re.compile(r"[^\W\d_]{4,}")
CLOSE = 0.8


def normalised(message: str) -> str:
    """Lower case, plain apostrophes, slips of the finger in the words we know taken back."""
    text = (
        unicodedata.normalize("NFKC", message)
        .lower()
        .replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
        .replace("`", "'")
    )
    return _WORD.sub(lambda found: _spelt(found[0]), " ".join(text.split())[:2_000])


def _spelt(word: str) -> str:
    if word in _RIGHT or len(word) < 5 or len(word) > 20:
        return word
    if any(word.startswith(known) or known.startswith(word) for known in _KEYWORDS):
        return word
    return next(iter(difflib.get_close_matches(word, _KEYWORDS, 1, CLOSE)), word)


def intent_of(message: str) -> Intent:
    """What a question is about, by its words."""
    text = normalised(message)
    if asked_parameter(text) and not _NOT_ITS_VALUE.search(text):
        return "config"
    return next((intent for intent, words in _COMPILED if words.search(text)), "other")


_NOT_ITS_VALUE = re.compile(
    r"\bsafe|\brisk|\bwhy\b|chang|\bhow (do|to|can)\b|should|recommend|compar|happen if"
)
_AND = re.compile(r"[?!.;]+\s+|,\s+(?:and )?|\s+and (?:also )?|\s+also ")
MOST_PARTS = 3


def parts_of(message: str) -> list[str]:
    """A question that asks several things, each by itself: `what is wrong and is A1 safe?`.

    The whole, unless every part is a question of its own about something else.
    """
    parts = [part for part in _AND.split(message[:2_000]) if part and part.strip(" ?!.")]
    intents = [intent_of(part) for part in parts]
    apart = 2 <= len(parts) <= MOST_PARTS and len(set(intents)) == len(parts)
    return parts if apart and "other" not in intents and "help" not in intents else [message]


_NAME = r"(?P<name>[a-z0-9_ '/.-]{2,80}?)"
_KIND = (
    r"(?:the |an? )?(?:(?:info |redis |valkey )?(?:metric|field|parameter|setting|config|error) )?"
)
_PLAINLY = tuple(
    re.compile(pattern)
    for pattern in (
        rf"what (?:does|do|did|is) {_KIND}{_NAME} (?:mean|stands? for|measure|tell us|say)\b",
        rf"(?:meaning|definition) of {_KIND}{_NAME}\W*$",
        rf"what is meant by {_KIND}{_NAME}\W*$",
        rf"\b(?:define|explain) {_KIND}{_NAME}\W*$",
        rf"^{_NAME} meaning\W*$",
    )
)
_BY_NAME = re.compile(
    rf"^\W*(?:(?:what|what's|whats|what is|what are|what was|and|tell me about|explain) )?{_KIND}"
    r"(?P<name>[a-z0-9]+(?:[_-][a-z0-9]+)+)(?: (?:here|now|on .*|metric|field|parameter))?\W*$"
)


def asked_name(message: str) -> str:
    """The name whose meaning is asked for, or empty.

    Plain words only where a meaning is asked for (`what does role mean`); names with `_` or `-`
    also where they stand alone (`what is used_memory_rss`, `used_memory_rss?`).
    """
    text = normalised(message)
    found = next((match for each in _PLAINLY if (match := each.search(text))), None)
    found = found or _BY_NAME.match(text)
    return found["name"].strip(" '") if found else ""
