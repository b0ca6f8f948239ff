"""What keeps an incident from coming back, with numbers from this server."""

from agent.prevention import render, render_prevention
from agent.runbook import Prevention
from agent.runbook_library import load_library
from tests.agent.readings import blank, evidence
from tests.agent.test_checklist import full
from tools.keyspace import BigKeys, PrefixRow


def test_prevention_carries_numbers_or_says_what_it_could_not_measure() -> None:
    seen = evidence(full())
    assert render("{memory_info.used_memory:bytes} used", seen) == "60.0 MiB used"
    assert render("{memory_info.used_memory_startup:bytes} used", seen) == "(not measured) used"
    item = Prevention(text="{stats.hit_ratio:ratio} hit", otherwise="Watch hits")
    assert render(item, seen) == "Watch hits"
    assert render("shard by {user:1} or {tag}", seen) == "shard by {user:1} or {tag}"


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
