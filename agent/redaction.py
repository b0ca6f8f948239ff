"""Secrets and personal data out of any text before it is kept or sent. Pure, bounded time.

Every pattern has bounded repetition, so time grows linearly with the text; redacting twice
changes nothing; ordinary key names, prefixes, numbers and hex ids stay as they are.
"""

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

PASSWORD, TOKEN, EMAIL, CARD = (
    f"[redacted {what}]" for what in ("password", "token", "e-mail", "card")
)
_NOT_YET = r"(?!\[redacted )"
_VALUE = r"""(?:"[^"]{1,512}"|'[^']{1,512}'|[^\s"',;&\[\]{}()<>]{1,512})"""
_SENSITIVE = (
    r"(?:password|passwd|passphrase|pwd|secret|client_secret|api[_-]?key|apikey|access[_-]?key"
    r"|access[_-]?token|refresh[_-]?token|auth[_-]?token|secret[_-]?key|requirepass|masterauth"
    r"|sentinel-pass|tls-key-file-pass|tls-client-key-file-pass)"
)
_SENSITIVE_NAME = re.compile(rf"(?i){_SENSITIVE}|authorization|proxy-authorization|set-cookie")
_DEEPEST = 40
"""Levels of nested JSON that are followed; deeper ones are dropped."""

_URL_USER = re.compile(
    r"(?<![a-z0-9+.-])([a-z][a-z0-9+.-]{1,19}://)" + _NOT_YET + r"[^\s/\"'<>]{1,300}@",
    re.IGNORECASE,
)
_PEM = re.compile(
    r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----[A-Za-z0-9+/=\s\\]{0,8000}"
    r"(?:-----END [A-Z ]{0,30}PRIVATE KEY-----)?"
)
_AUTHORIZATION = re.compile(
    r"(?i)\b(authorization\s{0,3}[:=]\s{0,3}(?:[a-z]{3,12}\s{1,3})?|bearer\s{1,3})"
    + _NOT_YET
    + r"[A-Za-z0-9._~+/=-]{8,2048}+(?!\s{1,3}\[redacted )"  # that was a scheme, the token is gone
)
_KEYS = re.compile(
    r"(?<![A-Za-z0-9])(?:"
    r"sk-[A-Za-z0-9_-]{16,256}|[srp]k_(?:live|test)_[A-Za-z0-9]{10,256}"
    r"|gh[pousr]_[A-Za-z0-9]{20,256}|github_pat_[A-Za-z0-9_]{20,256}|glpat-[A-Za-z0-9_-]{16,256}"
    r"|xox[abeprs]-[A-Za-z0-9-]{10,256}|A[KS]IA[0-9A-Z]{16}|AIza[0-9A-Za-z_-]{35}"
    r"|hf_[A-Za-z0-9]{20,256}|eyJ[A-Za-z0-9_-]{8,2048}\.[A-Za-z0-9_-]{4,4096}\.[A-Za-z0-9_-]{0,2048}"
    r")"
)
# A colon alone joins the words of a key name (`password:reset:7`): only `: ` assigns.
_ASSIGNED = re.compile(
    rf"(?i)({_SENSITIVE}[\"']?(?:\s{{0,3}}=\s{{0,3}}|\s{{0,3}}:\s{{1,3}}|:(?=[\"'])))"
    + _NOT_YET
    + _VALUE
)
_PARAMETER = re.compile(
    rf"(?i)\b((?:requirepass|masterauth|tls-key-file-pass|sentinel-pass)\s{{1,3}}){_NOT_YET}{_VALUE}"
)
_AUTH = re.compile(rf"\b(AUTH2?\s{{1,3}}){_NOT_YET}{_VALUE}(?:\s{{1,3}}{_NOT_YET}{_VALUE})?")
_AUTH_ALONE = re.compile(
    rf"(?i)\A(\s{{0,3}}auth\s{{1,3}}){_NOT_YET}{_VALUE}(?:\s{{1,3}}{_VALUE})?\s*\Z"
)
_ACL_PASSWORD = re.compile(
    rf"(?i)(\bsetuser\s{{1,3}}\S{{1,200}}[^\n]{{0,300}}?\s[><]){_NOT_YET}\S{{1,512}}"
)
_EMAIL = re.compile(
    r"(?<![\w.+-])[A-Za-z0-9_.+-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){0,4}"
    r"\.[A-Za-z]{2,24}(?![A-Za-z0-9-])"
)
_CARD = re.compile(
    r"(?<![0-9A-Za-z.])(?:\d{14,16}|\d{4}([ -])\d{4}\1\d{4}\1\d{4}|\d{4}([ -])\d{6}\2\d{5})"
    r"(?![0-9A-Za-z]|\.\d)"
)
# Issuers' first digits: time stamps and sequence numbers start otherwise.
_ISSUER = re.compile(
    r"4\d{15}|5[1-5]\d{14}|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)\d{12}|3[47]\d{13}"
    r"|6(?:011|5\d\d|4[4-9]\d)\d{12}|35(?:2[89]|[3-8]\d)\d{12}|3(?:0[0-5]|[68]\d)\d{11}"
)


def redact(text: str) -> str:
    """The text without passwords, tokens, keys, e-mail addresses and card numbers."""
    return _short(text) if len(text) <= _SHORT else _redacted(text)


_SHORT = 64
"""Names of fields and keys: they come again and again."""


@lru_cache(8_192)
def _short(text: str) -> str:
    return _redacted(text)


def _redacted(text: str) -> str:
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    return text


def _card(found: re.Match[str]) -> str:
    digits = re.sub(r"\D", "", found[0])
    return CARD if _ISSUER.fullmatch(digits) and _luhn(digits) else found[0]


def _luhn(digits: str) -> bool:
    doubled = (int(d) * (2 if at % 2 else 1) for at, d in enumerate(reversed(digits)))
    return sum(d - 9 if d > 9 else d for d in doubled) % 10 == 0


_RULES: tuple[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]], ...] = (
    (_PEM, TOKEN),
    (_URL_USER, rf"\1{PASSWORD}@"),
    (_AUTHORIZATION, rf"\1{TOKEN}"),
    (_KEYS, TOKEN),
    (_ASSIGNED, rf"\1{PASSWORD}"),
    (_PARAMETER, rf"\1{PASSWORD}"),
    (_AUTH, rf"\1{PASSWORD}"),
    (_AUTH_ALONE, rf"\1{PASSWORD}"),
    (_ACL_PASSWORD, rf"\1{PASSWORD}"),
    (_EMAIL, EMAIL),
    (_CARD, _card),
)


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
        and _SENSITIVE_NAME.fullmatch(name)
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
