"""Sections of runbooks are found by words, and quoted as they stand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.runbook import FrontMatter, Library, Runbook
from agent.runbook_library import load_library
from agent.runbook_search import LONGEST_QUOTE, RunbookSearch

LIBRARY = load_library()
SEARCH = RunbookSearch(LIBRARY)


@pytest.mark.parametrize(
    ("query", "runbook"),
    [
        ("memory fragmentation allocator", "fragmentation-after-deletes"),
        ("subscriber does not read", "slow-pubsub-cob"),
        ("MISCONF unable to persist", "misconf-bgsave-fail"),
        ("append-only file rewrite loop", "aof-rewrite-loop"),
        ("transparent huge pages", "thp-or-swap"),
        ("who left MONITOR on", "monitor-left-on"),
        ("full synchronisations of replicas again and again", "full-sync-loop"),
        ("pending entries of a consumer group", "stream-pel-growth"),
        ("scripts cached by EVAL", "lua-script-cache"),
    ],
)  # fmt: skip
def test_the_runbook_that_speaks_of_it_is_among_the_first(query: str, runbook: str) -> None:
    assert runbook in [passage.runbook for passage in SEARCH.find(query, 3)]


def test_a_slip_of_the_finger_finds_the_same() -> None:
    assert SEARCH.find("memory framgentation alocator") == SEARCH.find(
        "memory fragmentation allocator"
    )


@pytest.mark.parametrize("query", ["", "the", "what is the weather", "12345", "🙂", "xyzzy plugh"])
def test_nothing_is_found_where_nothing_speaks_of_it(query: str) -> None:
    assert SEARCH.find(query) == []


@given(st.text(max_size=600))
def test_no_query_breaks_the_index(query: str) -> None:
    """FTS5 has a query language of its own: NEAR, OR, quotes, columns, stars."""
    assert len(SEARCH.find(query)) <= 3


@pytest.mark.parametrize(
    "query", ['"', "memory OR (", "title:memory", "NEAR(memory, 2)", "-memory*"]
)
def test_the_index_is_not_given_orders(query: str) -> None:
    SEARCH.find(query)


def test_quotations_are_short_and_stand_in_the_section() -> None:
    for query in ("big key deleted", "backlog", "eviction policy", "maxmemory", "replica lag"):
        for passage in SEARCH.find(query, 5):
            quote = SEARCH.quote(passage, query)
            assert 0 < len(quote) <= LONGEST_QUOTE
            assert SEARCH.holds(passage.runbook, passage.section, quote)


def test_a_quotation_holds_only_where_it_stands() -> None:
    (passage, *_) = SEARCH.find("backlog counts against maxmemory")
    words = passage.units[0]
    assert SEARCH.holds(passage.runbook, passage.section, words)
    assert SEARCH.holds(passage.runbook, passage.section, words.upper().replace("`", ""))
    assert not SEARCH.holds(passage.runbook, "Symptoms", words)
    assert not SEARCH.holds("no-such", passage.section, words)
    assert not SEARCH.holds(passage.runbook, passage.section, f"{words} or not")
    assert not SEARCH.holds(passage.runbook, passage.section, "the")


def test_a_teams_own_prose_is_found_too_and_cannot_bring_control_characters() -> None:
    book = Runbook(
        front=FrontMatter(id="ours", title="Our checkout cache"),
        body="# Our checkout cache\n\nCall the flamingo team.\x1b[2J\n\n## Odd\n- one\n- two\n",
        path="ours.md",
        prose_only=True,
    )
    search = RunbookSearch(Library(runbooks=[book]))
    (passage,) = search.find("flamingo")
    assert passage.section == "Our checkout cache"
    assert search.quote(passage, "flamingo") == "Call the flamingo team.\\x1b[2J"


def test_half_a_sentence_may_say_the_opposite_and_is_no_quotation() -> None:
    book, section = "memory-pressure", "What not to do"
    whole = (
        "Do not run `FLUSHALL`, `FLUSHDB`, `KEYS`, `SAVE`, `MONITOR` or `DEBUG` on a live server."
    )
    assert SEARCH.holds(book, section, whole)
    assert not SEARCH.holds(book, section, "run FLUSHALL, FLUSHDB, KEYS")
    assert not SEARCH.holds(book, section, whole.removeprefix("Do not "))
    assert not SEARCH.holds(book, section, whole.removesuffix(" on a live server."))
