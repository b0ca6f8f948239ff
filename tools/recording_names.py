"""A recording with other names in it: for one that was made without and is to leave the house."""

from dataclasses import replace
from typing import Any

from tools.recording_file import Failure, KeyTable, Outcome, Recording, Words
from tools.recording_privacy import Pseudonyms


def hashed(recording: Recording, names: Pseudonyms) -> Recording:
    """The recording as `capture --hash-names` would have made it.

    Of the alert its name and severity stay: labels and texts name hosts and services.
    """
    header = recording.header
    address, space, role = header.node.partition(" ")
    node = names.address(address.encode()).decode("utf-8", "replace") + space + role
    other = renamed(recording, names)
    header = replace(header, node=node, hashed=True, alert=_nameless(header.alert))
    return replace(other, header=header)


def renamed(recording: Recording, names: Pseudonyms) -> Recording:
    """The same answers of the server with these names in them."""
    return Recording(
        recording.header,
        {
            names.command(words): [(at, _named(words, one, names)) for at, one in outcomes]
            for words, outcomes in recording.frames.items()
        },
        _table(recording.table, names),
        recording.known,  # numbers, and words of ours
    )


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
