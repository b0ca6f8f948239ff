"""What a model is shown of evidence: bounded, redacted, and every path in it true."""

import json
import math
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.digest import EVIDENCE_CHARACTERS, all_evidence, bounded, one_evidence, untrusted
from agent.facts import leaves, resolve
from tests.agent.desk import GONE, piece, some_evidence

ROWS = [{"key": f"user:{n}", "bytes": n, "nested": [1, 2]} for n in range(500)]
TABLE = "top_by_bytes.N.{key,bytes,nested}"


def shown_paths(at: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """What a digest shows, as a reader of `TABLES` understands it: each path and its value."""
    if isinstance(at, dict):
        for name, part in at.items():
            yield from _shown_at(f"{path}.{name}" if path else name, part)
    elif isinstance(at, list):
        for number, part in enumerate(at):
            yield from _shown_at(f"{path}.{number}", part)
    else:
        yield path, at


def _shown_at(path: str, part: Any) -> Iterator[tuple[str, Any]]:
    field, table, columns = path.partition(".N.{")
    if table:
        for row, values in part.items():
            named = zip(columns[:-1].split(","), values, strict=True) if row != "more" else ()
            for column, value in named:
                yield from _shown_at(f"{field}.{row}.{column}", value)
    elif part is not None and not _says_what_is_missing(path, part):
        yield from shown_paths(part, path)


def _says_what_is_missing(path: str, part: Any) -> bool:
    gone = path.endswith("not measured") or str(part).startswith("not measured: ")
    return gone or str(part).endswith("more not shown)")


def assert_true(shown: Any, real: Any) -> None:
    if isinstance(real, float):
        assert math.isclose(shown, real, rel_tol=1e-3, abs_tol=1e-4)
        assert bool(shown) == bool(real)
    elif isinstance(real, str):
        assert real.startswith(shown.partition("…")[0])
    else:
        assert shown == real


def test_a_list_of_records_comes_as_a_table_cut_from_its_end() -> None:
    shown = one_evidence(piece(1, "bigkeys", {"top_by_bytes": ROWS}))
    table = shown["reading"][TABLE]
    assert table["0"] == ["user:0", 0, [1, 2]]
    assert table["more"] == [f"{500 - len(table) + 1} not shown"]


def test_columns_that_say_nothing_are_left_out() -> None:
    rows = [{"key": "a", "note": None, "bytes": 1}, {"key": "b", "note": None, "bytes": 2}]
    assert bounded({"rows": rows}) == {"rows.N.{key,bytes}": {"0": ["a", 1], "1": ["b", 2]}}


def test_names_from_the_server_never_become_columns() -> None:
    rows = [{"a}.N.{b": 1}, {"a}.N.{b": 2}]
    assert bounded({"rows": rows}) == {"rows": rows}


@pytest.mark.parametrize(
    ("value", "shown"),
    [(5.0, 5), (0.0, 0), (1.23456789, 1.2346), (0.0000123456, 0.00001235), (1e30, int(1e30))],
)
def test_numbers_lose_digits_and_never_their_size(value: float, shown: float) -> None:
    assert bounded(value) == shown


def test_what_is_too_large_in_any_shape_comes_as_its_paths() -> None:
    wide = {f"field_{n}": "x" * 200 for n in range(100)}
    shown = one_evidence(piece(1, "any", wide), limit=1_000)
    assert len(shown["reading"]["too_large_to_show"]) <= 1_000
    assert "field_7" in shown["reading"]["too_large_to_show"]


def test_evidence_without_room_comes_as_its_summary() -> None:
    pieces = [piece(n, "bigkeys", {"top_by_bytes": ROWS, "n": n}) for n in range(1, 40)]
    shown = all_evidence(pieces)
    assert len(json.dumps(shown)) < 2 * EVIDENCE_CHARACTERS
    assert "reading" in shown[0]
    assert shown[-1] == {"evidence": "E39", "tool": "bigkeys", "summary": "bigkeys at a glance"}


@pytest.mark.parametrize("limit", [0, 300, 1_500, 4_000])
def test_the_limit_holds_and_nothing_is_hidden(limit: int) -> None:
    pieces = [piece(n, "bigkeys", {"top_by_bytes": ROWS, "n": n}) for n in range(1, 30)]
    shown = all_evidence(pieces, limit)
    named = sum(len(json.dumps(each)) for each in shown if set(each) == {"evidence", "tool"})
    assert len(json.dumps(shown, separators=(",", ":"))) <= limit + named
    assert [each["evidence"] for each in shown] == [each.id for each in pieces]


def test_the_most_telling_comes_first_and_what_was_not_measured_last() -> None:
    shown = all_evidence(some_evidence(), first=["E4"])
    assert [each["evidence"] for each in shown] == ["E4", "E1", "E2", "E3"]
    cramped = all_evidence(some_evidence(), 420, ["E4"])
    assert ["reading" in each for each in cramped[:3]] == [True, False, False]


def test_what_was_not_measured_says_why() -> None:
    assert one_evidence(some_evidence()[2])["reading"] == "not measured: NOPERM: no permission"
    reading = one_evidence(piece(1, "any", {"a": GONE, "b": None, "c": [], "d": 0, "e": GONE}))
    assert reading["reading"] == {"d": 0, "not measured": {"NOPERM: no permission": "a, e"}}


_SCALARS = st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text("xyz.N{}")
_RECORDS = st.dictionaries(st.text("de", min_size=1, max_size=2), _SCALARS, max_size=3)


@given(
    st.dictionaries(
        st.text("abc", min_size=1, max_size=3),
        st.lists(_SCALARS, max_size=30) | st.lists(_RECORDS, max_size=12) | _RECORDS | _SCALARS,
        max_size=5,
    )
)
def test_every_path_that_is_shown_is_true(reading: dict[str, Any]) -> None:
    known = {"E1": piece(1, "any", reading)}
    for path, value in shown_paths(one_evidence(known["E1"], limit=100_000)["reading"]):
        assert_true(value, resolve(path, "E1", known))


def test_a_small_reading_is_shown_whole() -> None:
    reading = {"a": 1, "rows": [{"x": 1.5, "y": "b"}, {"x": 2, "y": None}], "deep": {"c": [7, 8]}}
    shown = dict(shown_paths(one_evidence(piece(1, "any", reading))["reading"]))
    assert shown == {path: leaf for path, leaf in leaves(reading) if leaf is not None}


@given(st.text(max_size=100))
def test_no_text_can_end_the_data_or_look_like_mark_up(text: str) -> None:
    message = untrusted("Names", {"key": text})
    data = message.partition("\n")[2]
    assert not set("<>`\n") & set(data)
    assert isinstance(json.loads(data)["key"], str)
