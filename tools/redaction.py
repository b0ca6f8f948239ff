"""Secrets and personal data out of any text before it is kept or sent. Pure, bounded time.

What they look like is in `secret_shapes.py`. Redacting twice changes nothing; ordinary key names,
prefixes, numbers and hex ids stay as they are. Not recognised, and not meant to be: national phone
numbers, names of people, session ids, a password that nothing marks as one. Hashing names hides
those from a model, too (`agent/veil.py`).
"""

import html
import re
import unicodedata
from functools import lru_cache
from urllib.parse import unquote

from tools.secret_shapes import BASE64, TOKEN, decoded, without_secrets

_ROUNDS = 4
"""How often a text may have been encoded, one in another."""
_LINE = re.compile(r"[^\n]+")
_ESCAPE = re.compile(r"\\x([0-9A-Fa-f]{2})|\\u([0-9A-Fa-f]{4})|\\U000([0-9A-Fa-f]{5})")


def redact(text: str) -> str:
    """The text without passwords, tokens, keys, e-mail addresses and card numbers."""
    return _short(text) if len(text) <= _SHORT else _redacted(text)


_SHORT = 64
"""Names of fields and keys: they come again and again."""


@lru_cache(8_192)
def _short(text: str) -> str:
    return _redacted(text)


def _redacted(text: str, rounds: int = _ROUNDS) -> str:
    text = without_secrets(text)
    if rounds:
        text = BASE64.sub(lambda found: _base64(found[0], rounds - 1), text)
        if not text.isascii() or any(mark in text for mark in "%\\&"):
            text = _LINE.sub(lambda line: _seen_through(line[0], rounds - 1), text)
    return text


def _base64(text: str, rounds: int) -> str:
    said = decoded(text)
    return TOKEN if said and _redacted(said, rounds) != said else text


def _seen_through(line: str, rounds: int) -> str:
    """The line; decoded, if only that shows what it holds."""
    seen = _ESCAPE.sub(_character, html.unescape(unquote(line)))
    seen = unicodedata.normalize("NFKC", seen)
    seen = "".join(c for c in seen if unicodedata.category(c) != "Cf")
    if seen == line or (clean := _redacted(seen, rounds)) == seen:
        return line
    return "".join(c if c.isprintable() else " " for c in clean)


def _character(found: re.Match[str]) -> str:
    number = int(found[1] or found[2] or found[3], 16)
    return "" if 0xD800 <= number < 0xE000 else chr(number)
