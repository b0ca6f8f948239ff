"""What JSON may look like, before anybody parses it: found in linear time."""

import re

DEEPEST_JSON = 32
"""Arrays and objects within each other; real messages have six."""
MOST_BRACKETS = 200_000
"""Each of them becomes an object of Python: far more than a message of 2,000 alerts has."""
LONGEST_NUMBER = 64
"""Digits of a number. Python refuses 4300 of an integer, and is slow before."""

# Possessive, and a string that is never closed is one: no text makes this slow.
_STRINGS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_NUMBER = re.compile(rb"(?<!\d)\d{%d}" % (LONGEST_NUMBER + 1))
_OPENED_AND_CLOSED = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


def json_too_much(body: bytes) -> str | None:
    """Why nobody should parse it; None: it may be tried."""
    try:
        body.decode()
    except UnicodeDecodeError:
        return "JSON is sent in UTF-8"
    if b"\0" in body:  # of UTF-16, or within a text: neither is JSON
        return "JSON is sent in UTF-8, without NUL"
    bare = _STRINGS.sub(b"", body)
    if _NUMBER.search(bare):
        return f"a number may have at most {LONGEST_NUMBER} digits"
    brackets = bare.translate(_OPENED_AND_CLOSED, _NO_BRACKETS)
    if len(brackets) > MOST_BRACKETS:
        return f"it may have at most {MOST_BRACKETS // 2} arrays and objects"
    for _ in range(DEEPEST_JSON):
        if not brackets:
            return None
        brackets = brackets.replace(b"[]", b"")  # the innermost level of all
    if not brackets:
        return None
    return f"it is nested deeper than {DEEPEST_JSON} levels, or its brackets do not match"
