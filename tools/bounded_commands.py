"""Commands that remedies send in one bounded form only. Pure.

Which key a remedy means, no guard can know; that no single call can empty it, or read it whole,
it can.
"""

import re
from collections.abc import Callable, Sequence

MOST = 1_000
"""Elements read, taken or removed at a time."""
MOST_TRIMMED = 10_000
"""Entries a step of XTRIM may remove: it frees whole nodes, some hundred entries at a time."""
_ID = re.compile(r"\d{1,20}-\d{1,20}")

Words = Sequence[str]


def form_refused(name: str, command: Sequence[object]) -> str | None:
    """Why this form of a command may not be sent, or None."""
    guard = _GUARDS.get(name)
    if guard is None or guard(_words(command[1:])):
        return None
    return f"this form of {name.upper()} is not allowed: it is not bounded"


def _words(parts: Sequence[object]) -> Words:
    # The key and the elements are of no interest: what is judged are numbers and keywords.
    return [
        part[:64].decode("utf-8", "replace") if isinstance(part, bytes) else str(part)[:64]
        for part in parts
    ]


def _number(word: str) -> int | None:
    return int(word) if re.fullmatch(r"-?\d{1,18}", word) else None


def _at_most(word: str, most: int) -> bool:
    number = _number(word)
    return number is not None and 1 <= number <= most


def _trims_in_steps(words: Words) -> bool:
    match [word.upper() for word in words]:
        case [_, "MINID", "~", entry, "LIMIT", count]:
            return bool(_ID.fullmatch(entry)) and _at_most(count, MOST_TRIMMED)
    return False


def _xrange(words: Words) -> bool:
    return len(words) == 5 and words[3].upper() == "COUNT" and _at_most(words[4], MOST)


def _scans(words: Words) -> bool:
    if words[-1].upper() == "NOVALUES":
        words = words[:-1]
    if len(words) not in (4, 6) or words[-2].upper() != "COUNT":
        return False
    return _at_most(words[-1], MOST) and (len(words) == 4 or words[2].upper() == "MATCH")


def _range(words: Words) -> bool:
    """A bounded stretch from one end: both places on the same side."""
    if len(words) < 3 or any(word.upper() != "WITHSCORES" for word in words[3:]):
        return False
    first, last = _number(words[1]), _number(words[2])
    if first is None or last is None or (first < 0) != (last < 0):
        return False
    return 0 <= last - first < MOST


def _pops(words: Words) -> bool:
    return len(words) == 2 and _at_most(words[1], MOST)


def _claims(words: Words) -> bool:
    """Ids only: without JUSTID it would answer with the entries."""
    return _few(words) and words[-1].upper() == "JUSTID"


def _few(words: Words) -> bool:
    return 2 <= len(words) <= MOST + 8


_GUARDS: dict[str, Callable[[Words], bool]] = {
    "xtrim": _trims_in_steps,
    "xrange": _xrange,
    "hscan": _scans,
    "sscan": _scans,
    "lrange": _range,
    "zrange": _range,
    "lpop": _pops,
    "rpop": _pops,
    "hdel": _few,
    "hmget": _few,
    "srem": _few,
    "zrem": _few,
    "xack": _few,
    "xclaim": _claims,
    "lpush": _few,
    "rpush": _few,
    "sadd": _few,
    "zadd": lambda words: words[1].upper() == "NX" and len(words) <= 2 * MOST + 2,
    "hsetnx": lambda words: len(words) == 3,
    "hpexpireat": lambda words: [word.upper() for word in words[2:4]] == ["FIELDS", "1"],
    "hpexpiretime": _few,
}
BOUNDED = frozenset(_GUARDS)
