"""RESP2 replies as text, numbers and maps. A reply of an unexpected shape is an empty one."""

from tools.connection import Reply
from tools.reading import Measured, NotMeasured, printable


def text(reply: Reply, limit: int = 200) -> str:
    """A reply as bounded, printable text; nil is empty."""
    if isinstance(reply, bytes):
        return printable(reply, limit)
    return "" if reply is None or isinstance(reply, list) else str(reply)


def prose(reply: Reply, limit: int) -> str:
    """Text of several lines: line feeds stay, everything else is made printable."""
    raw = reply.decode("utf-8", "backslashreplace") if isinstance(reply, bytes) else ""
    shown = "\n".join(printable(line, limit) for line in raw[:limit].rstrip().split("\n"))
    return shown[:limit]


def integer(reply: Reply, otherwise: int = 0) -> int:
    """A reply as an integer, whether it came as one or as text."""
    number = decimal(reply)
    return otherwise if number is None else int(number)


def decimal(reply: Reply) -> float | None:
    """A reply as a finite number, or None."""
    if isinstance(reply, int):
        return reply
    try:
        number = float(reply) if isinstance(reply, bytes) else None
    except ValueError:
        return None
    return number if number is not None and abs(number) < float("inf") else None


def items(reply: Reply) -> list[Reply]:
    """A reply as a list; anything else is an empty one."""
    return reply if isinstance(reply, list) else []


def mapping(reply: Reply) -> dict[str, Reply]:
    """A flat list of names and values (how RESP2 spells a map) as a dict."""
    flat = items(reply)
    return {text(name): value for name, value in zip(flat[::2], flat[1::2], strict=False)}


def fields(line: str) -> dict[str, str]:
    """`a=1,b=2`, as INFO spells several numbers in one field, as a dict."""
    pairs = (part.partition("=") for part in line.split(","))
    return {name: value for name, separator, value in pairs if separator}


def whole(value: str | None, otherwise: int = 0) -> int:
    """An integer in INFO's text."""
    try:
        return int(value) if value is not None else otherwise
    except ValueError:
        return otherwise


def measured_integer(value: Reply, what: str) -> Measured[int]:
    """A number the server reported, or why there is none."""
    number = decimal(value)
    return absent(what) if number is None else int(number)


def absent(what: str) -> NotMeasured:
    """This server does not report it."""
    return NotMeasured(not_measured=what, because="this server does not report it")
