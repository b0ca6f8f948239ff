"""Asking a build whether it would take a value, without giving it."""

from tools.connection import CommandFailure, Connection
from tools.remedies.remedy import Check
from tools.remedies.vitals import read_vitals

_IMPOSSIBLE = {"hz": "none", "timeout": "none"}
"""No build takes these; since 7.0, CONFIG SET of several parameters is all or nothing."""


async def accepts(connection: Connection, parameter: str, value: str) -> Check | None:
    """Would CONFIG SET take it? None: whoever may only read cannot ask. Raises CommandFailure.

    Before 7.0 there is no asking: what is refused then changes nothing either.
    """
    text = f"This build takes {parameter} {value}"
    if not (await read_vitals(connection)).at_least(7):
        because = "only trying tells, before 7.0; a refusal changes nothing"
        return Check(text=text, holds=True, because=because)
    other = next(name for name in _IMPOSSIBLE if name != parameter)
    try:
        await connection.execute("CONFIG", "SET", parameter, value, other, _IMPOSSIBLE[other])
    except CommandFailure as failure:
        if failure.kind == "not_allowed":
            return None
        if f"'{other}'" in failure.failed:
            because = f"set together with an impossible {other}, only that one is refused"
            return Check(text=text, holds=True, because=because)
        if failure.kind in ("refused", "error"):
            return Check(text=text, holds=False, because=failure.failed)
        raise
    return Check(text=text, holds=None, because=f"the server took an impossible {other}")
