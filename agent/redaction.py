"""Secrets and personal data out of whole readings and JSON. Pure, bounded time."""

from typing import Any

from pydantic import ValidationError

from tools.reading import NotMeasured, Reading
from tools.redaction import redact
from tools.secret_shapes import PASSWORD, SENSITIVE_NAME

__all__ = ["redact", "redact_tree", "redacted"]

_DEEPEST = 40
"""Levels of nested JSON that are followed; deeper ones are dropped."""


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
