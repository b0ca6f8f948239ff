"""The general form of names shows no secret that they hold."""

from datetime import UTC, datetime

import pytest

from tools.clients import _row
from tools.encodings import EncodingRow, Encodings
from tools.shape import key_shape, population

NOW = datetime(2026, 11, 30, 3, 7, tzinfo=UTC)


def form(name: str) -> str:
    row = _row(b"id=7 addr=10.0.0.1:5 name=" + name.encode() + b" flags=N")
    assert row is not None
    return population(row)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("api-7f9-x2", "api-*-*"),
        ("worker17", "worker*"),
        ("mail-ann7@example.com", "[redacted e-mail]"),
        ("job/eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbm4ifQ.sOmeSignAture", "job/[redacted token]"),
        ("ci-glpat-AbcdEfghIjkl_Mnopqr7stu", "ci-[redacted token]"),
        ("redis://app:Correct-Horse7@cache:6379", "redis://[redacted password]@cache:*"),
        ("x:password=Correct.Horse7", "x:password=[redacted password]"),
    ],
)
def test_a_secret_is_seen_before_the_name_is_made_general(name: str, expected: str) -> None:
    assert form(name) == expected


def test_so_is_one_in_a_prefix() -> None:
    row = EncodingRow(
        prefix="of:ann@example.com:", type="hash", encoding="x", keys=5, bytes=9, elements=1
    )
    seen = Encodings(
        keys_total=9,
        keys_seen=9,
        stopped_because="",
        bytes_seen=9,
        lookups=9,
        rows=[row],
        advice=[],
    )
    assert key_shape(seen, NOW).groups[0].prefix == "of:[redacted e-mail]:"
