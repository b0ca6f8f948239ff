"""A recording with other names in it: for one that was made without and is to leave the house."""

from dataclasses import replace
from typing import Any

from tools.clients import UNNAMED
from tools.prefixes import NO_PREFIX, OTHER
from tools.recording_file import Failure, KeyTable, Outcome, Recording, Words
from tools.recording_privacy import Pseudonyms


def hashed(recording: Recording, names: Pseudonyms) -> Recording:
    """The recording as `capture --hash-names` would have made it.

    Of the alert its name and severity stay: labels and texts name hosts and services.
    """
    other = renamed(recording, names)
    alert = _nameless(recording.header.alert)
    return replace(other, header=replace(other.header, hashed=True, alert=alert))


def renamed(recording: Recording, names: Pseudonyms) -> Recording:
    """The same answers of the server with these names in them."""
    return Recording(
        replace(recording.header, node=_node(recording.header.node, names)),
        {
            names.command(words): [(at, _named(words, one, names)) for at, one in outcomes]
            for words, outcomes in recording.frames.items()
        },
        _table(recording.table, names),
        {name: _known(name, value, names) for name, value in recording.known.items()},
        {
            _node(address, names): replace(one, tried="", text=one.kind)
            if isinstance(one, Failure)
            else renamed(one, names)
            for address, one in recording.others.items()
        },
    )


def _node(node: str, names: Pseudonyms) -> str:
    """`host:port (role)` with another host."""
    address, space, role = node.partition(" ")
    return names.address(address.encode()).decode("utf-8", "replace") + space + role


_OURS = {"", UNNAMED, NO_PREFIX.decode(), OTHER.decode()}
_FIELDS = {"client": False, "prefix": False, "node": True, "primary": True}
"""Of what the installation knew, those with names in them; whether it is an address."""


def _known(field: str, value: Any, names: Pseudonyms) -> Any:
    """Nearly all of it is numbers, and words of ours."""
    if isinstance(value, dict):
        return {name: _known(name, part, names) for name, part in value.items()}
    if isinstance(value, list):
        return [_known(field, part, names) for part in value]
    if not isinstance(value, str) or field not in _FIELDS or _is_ours(value):
        return value
    if _FIELDS[field]:
        return _node(value, names)
    return names.name(value.encode("utf-8", "surrogateescape")).decode("utf-8", "replace")


def _is_ours(value: str) -> bool:
    """No client's name has a space: what is behind it is its library."""
    return value in _OURS or value.startswith(f"{UNNAMED} ")


def _nameless(alert: dict[str, Any] | None) -> dict[str, Any] | None:
    if alert is None:
        return None
    kept: dict[str, Any] = {f: alert[f] for f in ("name", "severity") if f in alert}
    return {**kept, "labels": {"alertname": alert.get("name", "")}}


def _named(words: Words, outcome: Outcome, names: Pseudonyms) -> Outcome:
    if isinstance(outcome, Failure):
        return replace(outcome, tried="")
    return names.reply(words, outcome)


def _table(table: KeyTable, names: Pseudonyms) -> KeyTable:
    return KeyTable(
        {names.name(key): cells for key, cells in table.keys.items()},
        {names.name(key) for key in table.scanned},
        table.complete,
        {column: replace(failure, tried="") for column, failure in table.failures.items()},
    )
