"""What keeps an incident from coming back, with numbers from this server."""

from typing import Any

import pytest

from agent.prevention import render, render_prevention
from agent.runbook import Prevention
from agent.runbook_library import load_library
from tests.agent.readings import blank, evidence
from tests.agent.test_checklist import full
from tools.keyspace import BigKeys, PrefixRow
from tools.reading import NotMeasured

MIB = 1024 * 1024
UNLIMITED = NotMeasured(not_measured="limit", because="maxmemory is 0", failure="absent")


def test_prevention_carries_numbers_or_says_what_it_could_not_measure() -> None:
    seen = evidence(full())
    assert render("{memory_info.used_memory:bytes} used", seen) == "60.0 MiB used"
    assert render("{memory_info.used_memory_startup:bytes} used", seen) == "(not measured) used"
    item = Prevention(text="{stats.hit_ratio:ratio} hit", otherwise="Watch hits")
    assert render(item, seen) == "Watch hits"
    assert render("shard by {user:1} or {tag}", seen) == "shard by {user:1} or {tag}"


def test_of_several_texts_the_first_that_has_its_numbers_is_said_or_the_last() -> None:
    seen = evidence(full())
    texts = ["{stats.hit_ratio:ratio} hit", "{memory_info.used_memory:bytes} used", "Watch both"]
    item = Prevention(text="{stats.evicted_keys:count} evicted", otherwise=texts)
    assert render(item, seen) == "60.0 MiB used"
    assert render(item, evidence()) == "Watch both"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"used_memory_peak": 95 * MIB}, "of the limit 100.0 MiB; a limit of 126.7 MiB keeps"),
        ({"used_memory_peak": 2 * MIB}, "of the limit 100.0 MiB. Review the trend"),
        ({"limit": UNLIMITED}, "no limit is known; one of 86.7 MiB keeps it at 75 %"),
    ],
)
def test_a_limit_is_named_only_where_the_peak_is_near_the_present_one(
    given: dict[str, Any], said: str
) -> None:
    """A server that uses 2 % of its memory must not be told of a smaller limit."""
    books = {book.id: book for book in load_library().runbooks}
    capacity = render(books["memory-pressure"].front.prevention[0], evidence(full(**given)))
    assert said in capacity
    assert ("keeps it at 75 %" in capacity) is ("keeps" in said)


def test_names_from_redis_are_quoted_in_prevention() -> None:
    row = blank(PrefixRow, prefix="evil{memory_info.used_memory}\\x1b", types=[])
    seen = evidence(full(), blank(BigKeys, prefixes=[row]))
    text = render("prefix {bigkeys.prefixes.0.prefix:text}", seen)
    assert text == 'prefix "evil{memory_info.used_memory}\\x1b"'


def test_prevention_of_the_diagnosed_cause_comes_first_and_of_others_not() -> None:
    books = load_library().runbooks
    items = render_prevention(books, evidence(full()), ["stream-unbounded"])
    assert items[0].startswith("Add with XADD")
    assert not any("MONITOR" in item for item in items)
