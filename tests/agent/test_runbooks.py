"""Runbooks as data: the seed whole, prose-only files used, broken and hostile ones named."""

import os
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent.incident import Alert
from agent.runbook import Library
from agent.runbook_library import (
    BASELINE,
    LARGEST_FILE,
    MOST_MATCHES,
    PACKAGED,
    RunbookError,
    load_library,
    load_runbook,
    match,
)
from agent.runbook_prose import MAPPED_TOOLS, checklist_of, sections_of, tool_for
from tools.reads import READS

SEED = """\
# Redis Persistent Data Store Memory Pressure Management

**Category**: shared
**Severity**: critical
**Source**: Generated runbook for Redis SRE Agent

## Symptoms
- Redis memory utilization reaching 85% or higher.
- Increased latency in Redis operations.
- Potential out-of-memory (OOM) errors.
- High disk I/O due to AOF/RDB persistence.

## Root Cause Analysis

### 1. Check Current Memory Usage
```bash
redis-cli INFO memory
# Look for 'used_memory' and 'used_memory_peak' to assess current memory usage.
```

### 2. Identify Large Keys
```bash
redis-cli --bigkeys
# This command will help identify keys that are consuming the most memory.
```

## Immediate Remediation

### Option 1: Increase Memory Allocation
```bash
# If running on a virtualized environment or cloud, increase the instance size.
# Ensure the new instance size has sufficient memory to handle the current load plus a buffer.
```

### Option 2: Optimize Data Structures
- Work with the application team to review and optimize data structures.
- Consider using more memory-efficient data types (e.g., use hashes instead of strings for objects).

## Long-term Prevention

### 1. Memory Scaling and Capacity Planning
- Regularly review memory usage trends and forecast future needs.
- Plan for scaling up Redis instances or sharding data across multiple instances.

### 2. Safe Data Cleanup Strategies
- Collaborate with the application team to identify and remove stale or unnecessary data.
- Implement a process for regular data audits to ensure only necessary data is stored.

## Monitoring & Alerting

### Key Metrics to Track
```bash
redis-cli INFO memory | grep 'used_memory'
redis-cli INFO stats | grep 'instantaneous_ops_per_sec'
```

### Alert Thresholds
- Set alerts for when memory usage exceeds 75% to allow for proactive management.
- Monitor disk I/O and set alerts for high usage that could indicate persistence issues.

## Production Checklist
- [ ] Verify that Redis `maxmemory` is set appropriately for the workload.
- [ ] Ensure that swap is enabled and configured correctly to handle unexpected memory spikes.
- [ ] Monitor and adjust AOF/RDB persistence settings to balance durability and performance.
- [ ] Regularly review and update capacity plans based on application growth and usage patterns.
"""
PROSE = """\
# Checkout sessions are slow

Ask the checkout team first.

```bash
$ redis-cli -h cache-1 -a secret INFO memory | grep used   # look at used_memory
redis-cli --bigkeys; redis-cli CONFIG GET maxmemory-policy
redis-cli SLOWLOG GET 10 && redis-cli CLIENT LIST
redis-cli XINFO GROUPS orders
redis-cli \\
  ACL LOG
redis-cli FLUSHALL
```
"""


@pytest.fixture(scope="module")
def library() -> Library:
    return load_library()


def alert(name: str, summary: str = "", **labels: str) -> Alert:
    return Alert(
        source="generic",
        name=name,
        fingerprint="f",
        starts_at=datetime(2026, 1, 1, tzinfo=UTC),
        labels=labels,
        annotations={"summary": summary} if summary else {},
    )


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def matched(library: Library, *alerts: Alert, question: str = "") -> dict[str, str]:
    return {found.id: found.why for found in match(library, list(alerts), question)}


# -- the seed ---------------------------------------------------------------------------------


def test_the_seed_is_there_word_for_word(library: Library) -> None:
    book = next(book for book in library.runbooks if book.id == BASELINE)
    assert book.body.startswith(SEED)
    assert book.front.severity == "critical"


def test_every_step_of_the_seed_does_something(library: Library) -> None:
    front = next(book for book in library.runbooks if book.id == BASELINE).front
    assert {"memory_info", "bigkeys", "stats", "persistence", "latency_latest"} <= set(
        front.baseline
    )
    kinds = [(remedy.kind, remedy.args.get("topic")) for remedy in front.remedies]
    assert ("instance_resize", None) in kinds  # option 1
    assert ("advise_application", "data-structures") in kinds  # option 2
    assert ("advise_application", "data-cleanup") in kinds  # strategy 2
    assert len(front.prevention) == 3  # capacity, cleanup, monitoring
    pressure = [(a.above, a.severity) for a in front.alerts if a.when == "memory_info.pressure"]
    assert pressure == [(0.75, "warning"), (0.85, "critical")]
    assert len(front.checklist) == len(checklist_of(SEED)) == 4


# -- what is shipped --------------------------------------------------------------------------


def test_every_file_but_the_readme_is_loaded(library: Library) -> None:
    names = {path.stem for path in PACKAGED.glob("*.md")} - {"README"}
    assert {book.id for book in library.runbooks} == names
    assert library.problems == []


def test_every_shipped_runbook_is_named_after_its_cause(library: Library) -> None:
    wrong = {
        book.id: [cause.id for cause in book.front.causes]
        for book in library.runbooks
        if book.id != BASELINE and [cause.id for cause in book.front.causes] != [book.id]
    }
    assert wrong == {}


def test_every_shipped_runbook_is_short_enough_for_three_in_the_morning(library: Library) -> None:
    lengths = {book.id: book.body.count("\n") for book in library.runbooks}
    assert {name: n for name, n in lengths.items() if not 40 <= n <= 80} == {}
    assert [
        book.id for book in library.runbooks if "What not to do" not in sections_of(book.body)
    ] == []


def test_loading_everything_takes_less_than_a_second() -> None:
    started = time.process_time()
    load_library()
    assert time.process_time() - started < 1.0


# -- matching ---------------------------------------------------------------------------------


def test_an_alert_is_matched_by_name_whatever_its_spelling(library: Library) -> None:
    for name in ("redis_memory_high", "REDISMEMORYHIGH", "RedisMemoryHigh on cache-1"):
        assert "alert RedisMemoryHigh" in matched(library, alert(name))[BASELINE]


def test_an_alert_that_many_runbooks_share_chooses_none_of_them(library: Library) -> None:
    """A memory alert says nothing about the cause; with a word of it, it does."""
    assert list(matched(library, alert("RedisMemoryHigh"))) == [BASELINE]
    found = matched(
        library, alert("RedisMemoryHigh", "since the subscriber of prices was deployed")
    )
    assert set(found) == {BASELINE, "slow-pubsub-cob"}


def test_words_find_the_runbook_and_why_says_which(library: Library) -> None:
    found = matched(library, question="a consumer group of our stream does not ack, pending grows")
    assert "stream-pel-growth" in found
    assert "pending" in found["stream-pel-growth"]


def test_matches_are_few_and_always_hold_the_baseline(library: Library) -> None:
    for name in ("RedisMemoryHigh", "RedisKeyEviction", "Unheard-of"):
        found = match(library, [alert(name, "stream oom ttl pubsub hash lua module save")], "")
        assert len(found) <= MOST_MATCHES
        assert BASELINE in [m.id for m in found]


def test_nothing_matches_so_the_baseline_is_used_and_says_so(library: Library) -> None:
    found = matched(library, question="qwertz")
    assert list(found) == [BASELINE]
    assert "no runbook matched" in found[BASELINE]


def test_labels_count_when_they_are_equal(tmp_path: Path) -> None:
    write(
        tmp_path,
        "queue.md",
        "---\nid: queue\ntitle: Queue\nmatches: {labels: {role: queue}}\n---\n",
    )
    library = load_library([tmp_path])
    assert "label role=queue" in matched(library, alert("X", role="Queue"))["queue"]
    assert "queue" not in matched(library, alert("X", role="cache"))


def test_a_hostile_alert_is_matched_in_bounded_time(library: Library) -> None:
    flood = alert(
        "A" * 10_000, "\x1b[31m stream " * 100_000, **{f"l{n}": "x" * 500 for n in range(99)}
    )
    started = time.process_time()
    found = match(library, [flood], "?" * 1_000_000)
    assert time.process_time() - started < 2.0
    assert all("\x1b" not in m.why and len(m.why) < 2_000 for m in found)


# -- only prose -------------------------------------------------------------------------------


def test_prose_alone_is_loaded_matched_and_mapped_to_tools(tmp_path: Path) -> None:
    write(tmp_path, "checkout-sessions.md", PROSE)
    library = load_library([tmp_path])
    book = next(book for book in library.runbooks if book.id == "checkout-sessions")
    assert book.prose_only
    assert book.body == PROSE
    assert book.front.title == "Checkout sessions are slow"
    assert book.front.baseline == [
        "memory_info", "bigkeys", "config_get", "slowlog", "clients", "stream_info", "acl_log",
    ]  # fmt: skip
    found = matched(library, alert("CheckoutLatency"), question="why is it slow?")
    assert "checkout" in found["checkout-sessions"]


@pytest.mark.parametrize(
    ("command", "tool"),
    [
        ("INFO memory", "memory_info"),
        ("INFO", "server_info"),
        ("info replication", "replication"),
        ("INFO persistence", "persistence"),
        ("INFO keyspace", "keyspace"),
        ("INFO commandstats", "command_stats"),
        ("--memkeys", "bigkeys"),
        ("MEMORY DOCTOR", "memory_doctor"),
        ("LATENCY DOCTOR", "latency_doctor"),
        ("LATENCY HISTORY fork", "latency_latest"),
        ("XPENDING s g", "stream_info"),
        ("MODULE LIST", "modules"),
        ("FLUSHALL", None),
        ("CONFIG SET maxmemory 0", None),
        ("CLIENT KILL ID 3", None),
        ("KEYS *", None),
        ("GET key", None),
    ],
)
def test_a_command_maps_to_the_tool_that_looks_there(command: str, tool: str | None) -> None:
    assert tool_for(tuple(command.split())) == tool


def test_every_mapped_tool_exists() -> None:
    assert set(READS) >= MAPPED_TOOLS


def test_the_seed_itself_works_as_prose(tmp_path: Path) -> None:
    write(tmp_path, "RUNBOOK_SEED.md", SEED)
    book = next(b for b in load_library([tmp_path]).runbooks if b.id == "runbook-seed")
    assert book.front.baseline == ["memory_info", "bigkeys", "stats"]


def test_prose_does_not_replace_a_runbook_with_causes(tmp_path: Path) -> None:
    write(tmp_path, "single-bigkey.md", "# Big keys\nOurs.\n")
    books = {book.id: book for book in load_library([tmp_path]).runbooks}
    assert books["single-bigkey-prose"].prose_only
    assert books["single-bigkey"].front.causes


def test_a_teams_front_matter_replaces_the_packaged_one(tmp_path: Path) -> None:
    write(tmp_path, "ours.md", "---\nid: single-bigkey\ntitle: Our way\n---\n# Our way\n")
    books = {book.id: book for book in load_library([tmp_path]).runbooks}
    assert books["single-bigkey"].front.title == "Our way"


def test_a_readme_is_no_runbook(tmp_path: Path) -> None:
    write(tmp_path, "ReadMe.md", "# How we write them\n")
    assert len(load_library([tmp_path]).runbooks) == len(load_library().runbooks)


# -- broken and hostile -----------------------------------------------------------------------

BROKEN = {
    "unclosed": ("---\nid: x\ntitle: X\n# X\n", "front matter", "second one"),
    "yaml": ("---\nid: [x\ntitle: X\n---\n", "front matter", "not valid YAML"),
    "list": ("---\n- id\n---\n", "front matter", "not a mapping"),
    "missing": ("---\nid: x\n---\n", "title", "Field required"),
    "unknown": ("---\nid: x\ntitle: X\nowner: me\n---\n", "owner", "unknown field"),
    "type": ("---\nid: x\ntitle: X\nseverity: awful\n---\n", "severity", "'critical'"),
    "nested": (
        "---\nid: x\ntitle: X\ncauses: [{id: y, title: Y, supported_by: {a: much}}]\n---\n",
        "causes.0.supported_by.a",
        "valid number",
    ),
    "alias": ("---\nid: &x x\ntitle: *x\n---\n", "front matter", "aliases"),
    "object": ("---\nid: !!python/object/apply:os.system [id]\n---\n", "front matter", "not valid"),
    "deep": (f"---\nid: {'[' * 20_000}\n---\n", "front matter", "not valid YAML"),
    "long": (f"---\nid: x\ntitle: {'x' * 40_000}\n---\n", "front matter", "longer than 32 KiB"),
    "huge": ("# X\n" + "x" * LARGEST_FILE, "file", "larger than 64 KiB"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_named_with_field_and_remedy_and_left_out(
    name: str, tmp_path: Path
) -> None:
    text, field, message = BROKEN[name]
    path = write(tmp_path, f"{name}.md", text)
    write(tmp_path, "good.md", "# A good one\n")
    library = load_library([tmp_path])
    (problem,) = library.problems
    assert (problem.file, problem.field) == (str(path), field)
    assert message in problem.message
    assert problem.remedy
    assert "good" in [book.id for book in library.runbooks]
    with pytest.raises(RunbookError, match=f"{name}.md"):
        load_runbook(path)


def test_two_files_with_one_id_are_a_problem(tmp_path: Path) -> None:
    for name in ("a.md", "b.md"):
        write(tmp_path, name, "---\nid: same\ntitle: Same\n---\n")
    (problem,) = load_library([tmp_path]).problems
    assert problem.field == "id"
    assert "a.md" in problem.message


def test_a_folder_that_is_not_there_is_a_problem(tmp_path: Path) -> None:
    (problem,) = load_library([tmp_path / "nowhere"]).problems
    assert problem.field == "folder"
    assert "nowhere" in problem.file


def test_bytes_that_are_no_text_pipes_and_hidden_files(tmp_path: Path) -> None:
    (tmp_path / "latin.md").write_bytes(b"# \xe9\n")
    os.mkfifo(tmp_path / "pipe.md")
    write(tmp_path, ".hidden.md", "# Hidden\n")
    library = load_library([tmp_path])
    assert [problem.message for problem in library.problems] == ["not UTF-8 (byte 2)"]
    assert not {"pipe", "hidden"} & {book.id for book in library.runbooks}


def test_escapes_and_overrides_in_a_file_become_harmless_text(tmp_path: Path) -> None:
    write(tmp_path, "evil.md", "# Evil \x1b[2J\u202e title\r\n\tindented\n")
    book = load_runbook(tmp_path / "evil.md")
    assert book.body == "# Evil \\x1b[2J\\u202e title\n    indented\n"
    assert "\x1b" not in book.front.title


@pytest.mark.parametrize(
    "line",
    ["redis-cli INFO memory\n", "`(`(`(\n", "redis-cli \\\n", "```\n", "- [ ] x\n", "> > > a 'b\n"],
)
def test_a_large_file_of_anything_loads_in_bounded_time(line: str, tmp_path: Path) -> None:
    path = write(tmp_path, "flood.md", "```\n" + line * (LARGEST_FILE // len(line) - 10))
    started = time.process_time()
    load_runbook(path)
    assert time.process_time() - started < 3.0
