"""A recording that is kept holds nobody's address, and still every key."""

from typing import Any

from api.recording_redaction import redacted
from tools.recording_file import Header, KeyTable, Recording

JANE, JOHN = b"user:jane@example.com:cart", b"user:john@example.com:cart"


def recording() -> Recording:
    table = KeyTable(
        {JANE: {"TYPE": b"hash"}, JOHN: {"TYPE": b"set"}, b"session:1": {"TYPE": b"string"}},
        {JANE, JOHN, b"session:1"},
    )
    clients = b"id=3 addr=10.0.0.7:5000 name=jane@example.com user=default\n"
    frames: Any = {
        (b"CLIENT", b"LIST"): [(0.0, clients)],
        (b"XLEN", JANE): [(0.0, 7)],
        (b"SLOWLOG", b"GET"): [(0.0, [[1, 2, 3, [b"GET", JOHN], b"10.0.0.7:1", b"w"]])],
        (b"INFO",): [(0.0, b"executable:/usr/bin/redis-server\r\nmaster_host:10.0.0.8\r\n")],
    }
    header = Header("2026-01-01T00:00:00+00:00", "valkey 9.1.2", "10.0.0.7:6379 (master)")
    return Recording(header, frames, table)


def test_names_are_redacted_and_stay_apart() -> None:
    kept = redacted(recording())
    assert set(kept.table.keys) == {
        b"user:[redacted e-mail]:cart", b"user:[redacted 2 e-mail]:cart", b"session:1",
    }  # fmt: skip
    assert kept.table.scanned == set(kept.table.keys)
    shown = repr((kept.frames, kept.table))
    assert "example.com" not in shown
    for stays in ("10.0.0.7:5000", "10.0.0.8", "/usr/bin/redis-server", "user=default"):
        assert stays in shown


def test_the_same_name_is_the_same_everywhere() -> None:
    kept = redacted(recording())
    ((_, asked),) = [words for words in kept.frames if words[0] == b"XLEN"]
    assert kept.table.keys[asked] == {"TYPE": b"hash"}
