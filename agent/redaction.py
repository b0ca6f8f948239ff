"""Secrets and personal data out of any text before it is kept or sent. Pure, bounded time.

What they look like is in `secret_shapes.py`. Redacting twice changes nothing; ordinary key names,
prefixes, numbers and hex ids stay as they are. Not recognised, and not meant to be: national phone
numbers, names of people, session ids, a password that nothing marks as one. Hashing names hides
those from a model, too (`veil.py`).
"""

import html
import re
import unicodedata
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

from pydantic import ValidationError

from agent.secret_shapes import BASE64, PASSWORD, SENSITIVE_NAME, TOKEN, decoded, without_secrets
from tools.reading import NotMeasured, Reading

_DEEPEST = 40
"""Levels of nested JSON that are followed; deeper ones are dropped."""
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


def redacted(reading: Reading | NotMeasured) -> Reading | NotMeasured:
    """The same reading without secrets: what is kept of it, summaries included, is made of this."""
    try:
        return type(reading).model_validate(redact_tree(reading.model_dump(mode="json")))
    except ValidationError:  # a text of bounded length that its marks made longer
        because = "too much of what it says had to be redacted"
        return NotMeasured(not_measured=type(reading).__name__, because=because, failure="error")


def redact_tree(tree: Any) -> Any:
    """JSON with every string redacted, names included. Numbers keep their place and type.

    The value of a member called `password` and the like goes whole, and so do the arguments
    of an AUTH command written as a list.
    """
    return _redact(tree, 0)


def _redact(tree: Any, depth: int) -> Any:
    if isinstance(tree, str):
        return redact(tree)
    if depth >= _DEEPEST and isinstance(tree, dict | list | tuple):
        return "[redacted: nested too deeply]"
    if isinstance(tree, dict):
        return {
            redact(name) if isinstance(name, str) else name: _member(name, value, depth)
            for name, value in tree.items()
        }
    if isinstance(tree, list | tuple):
        return _command(list(tree), depth)
    return tree


def _member(name: object, value: Any, depth: int) -> Any:
    if (
        isinstance(value, str)
        and value
        and isinstance(name, str)
        and SENSITIVE_NAME.fullmatch(name)
    ):
        return PASSWORD
    return _redact(value, depth + 1)


def _command(items: list[Any], depth: int) -> list[Any]:
    """A list; if it is a command that takes a password, without what follows."""
    words = [item.upper() if isinstance(item, str) else "" for item in items]
    start = next(
        (at + 1 for at, word in enumerate(words) if word in _PASSWORD_FOLLOWS and at < _HEAD), None
    )
    if start is None or not _is_command(words):
        return [_redact(item, depth + 1) for item in items]
    kept = [_redact(item, depth + 1) for item in items[:start]]
    return kept + [PASSWORD if isinstance(item, str) else item for item in items[start:]]


_HEAD = 4
_PASSWORD_FOLLOWS = frozenset({"AUTH", "REQUIREPASS", "MASTERAUTH"})


def _is_command(words: list[str]) -> bool:
    return words[0] in ("AUTH", "HELLO", "CONFIG", "MIGRATE") and len(words) > 1
