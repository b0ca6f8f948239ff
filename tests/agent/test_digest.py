"""What a model is shown of evidence: bounded, redacted, and every path in it true."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from agent.digest import EVIDENCE_CHARACTERS, all_evidence, one_evidence, untrusted
from agent.facts import FactRefused, leaves, resolve
from tests.agent.desk import GONE, piece, some_evidence

ROWS = [{"key": f"user:{n}", "bytes": n, "nested": [1, 2]} for n in range(500)]


def test_long_lists_are_cut_from_their_end_and_say_so() -> None:
    shown = one_evidence(piece(1, "bigkeys", {"top_by_bytes": ROWS}))
    rows = shown["reading"]["top_by_bytes"]
    assert rows[:2] == ROWS[:2]
    assert rows[-1] == f"({500 - len(rows) + 1} more not shown)"


def test_what_is_too_large_in_any_shape_comes_as_its_paths() -> None:
    wide = {f"field_{n}": "x" * 200 for n in range(100)}
    shown = one_evidence(piece(1, "any", wide), limit=1_000)
    assert len(shown["reading"]["too_large_to_show"]) <= 1_000
    assert "field_7" in shown["reading"]["too_large_to_show"]


def test_evidence_without_room_comes_as_its_summary() -> None:
    pieces = [piece(n, "bigkeys", {"top_by_bytes": ROWS, "n": n}) for n in range(1, 30)]
    shown = all_evidence(pieces)
    assert len(json.dumps(shown)) < 2 * EVIDENCE_CHARACTERS
    assert "reading" in shown[0]
    assert shown[-1] == {"evidence": "E29", "tool": "bigkeys", "summary": "bigkeys at a glance"}


def test_what_was_not_measured_says_why() -> None:
    assert one_evidence(some_evidence()[2])["reading"] == "not measured: NOPERM: no permission"
    reading = one_evidence(piece(1, "any", {"a": GONE, "b": None, "c": [], "d": 0}))["reading"]
    assert reading == {"a": "not measured: NOPERM: no permission", "d": 0}


@given(
    st.dictionaries(
        st.text("abc", min_size=1, max_size=3),
        st.lists(st.integers() | st.text("xyz", max_size=5), max_size=30)
        | st.dictionaries(st.text("de", min_size=1, max_size=2), st.integers(), max_size=3),
        max_size=5,
    )
)
def test_every_path_that_is_shown_is_true(reading: dict[str, Any]) -> None:
    known = {"E1": piece(1, "any", reading)}
    for path, leaf in leaves(one_evidence(known["E1"])["reading"]):
        try:
            assert resolve(path, "E1", known) == leaf or str(leaf).endswith("more not shown)")
        except FactRefused:
            assert leaf in ({}, [])


@given(st.text(max_size=100))
def test_no_text_can_end_the_data_or_look_like_mark_up(text: str) -> None:
    message = untrusted("Names", {"key": text})
    data = message.partition("\n")[2]
    assert not set("<>`\n") & set(data)
    assert isinstance(json.loads(data)["key"], str)
