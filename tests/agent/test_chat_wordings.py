"""The common questions in the words that people use, about an incident, a server, or neither."""

from typing import Any

import pytest

from agent.chat_intents import intent_of
from agent.runbook_library import load_library
from tests.agent.chatting import Kept, ask, solved
from tests.agent.desk import AT, MEMORY, MIB, Desk, incident, piece, some_evidence

LIBRARY = load_library()
WRONG = 'Keys under one prefix never expire.\n"session:" holds 60.0 MiB. [E2]'
BECAUSE = "Keys under one prefix never expire, because:"
SURE = "Fairly sure, 82.0 %: Keys under one prefix never expire."
PLAN = "A1: Give the keys under session: a TTL (R3, proposed)"
RISK = "A1, Give the keys under session: a TTL: risk R3 (changes or expires data)."
BIGGEST = 'The biggest key seen is "user:42:" ("hash"): it holds 3.0 MiB'
PREFIX = 'The biggest prefix is "session:": 199,000 keys under it hold 60.0 MiB'
LISTED = "1 open, 0 over, of the newest 1:"
STEPS = "2026-01-01 00:05:00 UTC A2 approved by ada"
DECIDED = "A2 (verified) was approved by ada (approver)"
MEMORY_SAID = "96.0 MiB are used; 90.0 MiB of it counts against the limit of 100.0 MiB"
OUT = "and its output buffer fills the memory (a guess, 10.0 %): buffers are small."

ABOUT_AN_INCIDENT = {
    WRONG: """what is wrong? | What's wrong | whats wrogn | waht is the problem? | what happened?
        | sum it up | summary | tl;dr | what is going on | status | what is the cause? | diagnosis?
        | WHAT IS WRONG | tell me about it | what broke | what's the situation""",
    BECAUSE: """why? | why do you think so | how come | what's the evidence | prove it | because?
        | what makes you think that | show me the evidence | why is memory full | based on what""",
    SURE: """how sure are you? | how certain | how confident are you | are you sure? | confidence?
        | how likely is that | can I trust this | what's the probability | confidance?""",
    PLAN: """what should I do? | what can we do about it | how do I fix it | the plan? | fix?
        | next steps | what is the plan | what do you recommend | how can I resolve this
        | what must be done | remediation? | how do I prevent this""",
    RISK: """is it safe to apply? | Is A1 safe | what is the risk | what could go wrong
        | will it lose data | can I undo it | is there a rollback | any side effects?
        | should I apply A1? | is A1 dangerous | preconditions?""",
    BIGGEST: """what is the biggest key? | biggest key | largest keys | which key is biggest
        | what are the heaviest keys | biggset key | what takes the memory | big keys?
        | what is using all the memory""",
    PREFIX: """what is the biggest prefix | which prefix is it | largest prefix? | prefixes
        | which namespace is biggest""",
    STEPS: """timeline | what did you do | when did it start? | history | what have you done
        | what happened so far | give me the chronology | what was done | when was it opened""",
    DECIDED: """who approved it? | who approved A2 | was it approved? | approvals | by whom
        | did anybody approve this | is it approved yet""",
    OUT: """what did you rule out | alternatives? | what else could it be | could it be something
        else? | other causes | why not pub/sub""",
    "Not measured: slowlog: NOPERM": """what was not measured? | what could you not see | gaps?
        | what is missing | what didn't you look at | any blind spots""",
    "Of the plan, A1 comes first": """what would you run next? | what would you look at next
        | what next | what should I check next""",
    MEMORY_SAID: """how is memory | memory? | how much memory is used | is the memory full
        | memroy usage""",
    "maxmemory is 100.0 MiB. [E4]": "what is maxmemory | maxmemory? | memory limit? | MAXMEMORY",
    LISTED: """status of all incidents | list incidents | which incidents are open | what is open?
        | any open alerts? | show me all incidents | how many incidents are there | overview""",
}  # fmt: skip


def _wordings() -> list[tuple[str, str]]:
    return [
        (" ".join(wording.split()), expected)
        for expected, wordings in ABOUT_AN_INCIDENT.items()
        for wording in wordings.split("|")
    ]


def test_the_table_is_large_enough() -> None:
    assert len(_wordings()) >= 100


@pytest.mark.parametrize(("message", "expected"), _wordings())
async def test_about_an_incident(message: str, expected: str) -> None:
    said = await ask(message, records=Kept(solved()), library=LIBRARY)
    assert expected in said.answer, (intent_of(message), said.answer)


@pytest.mark.parametrize(
    ("message", "tools"),
    [
        ("is it healthy?", {"memory_info", "stats", "bigkeys", "clients"}),
        ("is redis ok", {"memory_info", "stats"}),
        ("how is it doing right now", {"memory_info", "stats"}),
        ("check it", {"memory_info", "error_stats"}),
        ("what is wrong", {"memory_info", "stats"}),
        ("biggest key?", {"bigkeys"}),
        ("hot keys?", {"hot_keys"}),
        ("how many keys are there", {"keyspace"}),
        ("do keys expire", {"keyspace", "stats"}),
        ("is anything evicted", {"memory_info", "stats"}),
        ("how many clients are connected", {"clients"}),
        ("is there latency", {"slowlog", "latency_latest"}),
        ("any errors?", {"error_stats"}),
        ("who was denied by the acl", {"acl_log"}),
        ("how long is the stream", {"stream_info"}),
        ("are the replicas in sync", {"replication"}),
        ("did the last save work", {"persistence"}),
        ("how many requests per second", {"stats"}),
        ("which version runs", {"server_info"}),
        ("which commands use the cpu", {"command_stats"}),
        ("is memory fragmented", {"memory_info"}),
        ("cluster state?", {"cluster"}),
        ("any lua scripts?", {"scripts"}),
        ("which modules are loaded", {"modules"}),
        ("what is appendfsync", {"config_get"}),
        ("what does evicted_keys mean", {"stats"}),
        ("what changed?", {"memory_info", "keyspace", "config_get"}),
    ],
)  # fmt: skip
async def test_about_a_server_it_looks_for_the_right_thing(message: str, tools: set[str]) -> None:
    compared = {"looks": 50, "since": "2026-11-16T01:00:00Z"}
    desk = Desk(server_changes=compared)
    await ask(message, incident=None, evidence=[], look=desk.look, target="cache-1")
    assert tools <= {tool for tool, _ in desk.looks}, intent_of(message)
    assert len(desk.looks) <= 8


@pytest.mark.parametrize(
    ("message", "runbook", "words"),
    [
        ("why is FLUSHALL dangerous?", "memory-pressure", "Do not run `FLUSHALL`"),
        ("what causes memory fragmentation?", "fragmentation-after-deletes", "allocator"),
        ("what causes memory framgentation?", "fragmentation-after-deletes", "allocator"),
        ("how do I find a hot key?", "hot-key", "MONITOR"),
        ("what does MISCONF mean?", "misconf-bgsave-fail", ""),
        ("when is a replication backlog too small?", "backlog-too-small", ""),
        ("what happens when a big key is deleted", "", "blocks every client"),
        ("should I use transparent huge pages?", "thp-or-swap", ""),
        ("what is an eviction policy", "volatile-policy-no-ttl", ""),
        ("pub/sub subscriber does not read fast enough", "", ""),
    ],
)  # fmt: skip
async def test_about_redis_in_general_the_runbooks_are_quoted(
    message: str, runbook: str, words: str
) -> None:
    said = await ask(message, incident=None, evidence=[], library=LIBRARY)
    quotes = [source for source in said.citations if source.kind == "runbook"]
    assert quotes, said.answer
    assert runbook in ("", quotes[0].id)
    assert words in quotes[0].text
    books = {book.id: " ".join(book.body.split()) for book in LIBRARY.runbooks}
    for source in quotes:
        assert f"Runbook {source.id}, {source.section}: “{source.text}”" in said.answer
        assert source.text.split(". ")[0].split(" #")[0] in books[source.id]


@pytest.mark.parametrize(
    "message",
    ["what is the weather?", "tell me a joke", "what is the capital of France", "who won the cup",
     "asdf qwer", "12345", "🙂", "how do I bake a cake"],
)  # fmt: skip
@pytest.mark.parametrize("scope", ["incident", "server", "none"])
async def test_what_nobody_knows_is_said_so(message: str, scope: str) -> None:
    given: dict[str, Any] = {} if scope == "incident" else {"incident": None, "evidence": []}
    look = Desk().look if scope == "server" else None
    said = await ask(message, library=LIBRARY, look=look, **given)
    assert said.answer.startswith("I don't know"), said.answer
    assert said.claims == []
    assert said.citations == []


async def test_without_a_server_it_says_which_could_be_named() -> None:
    said = await ask(
        "how many clients are connected?", incident=None, evidence=[], targets=["cache-eu", "q"]
    )
    assert "no server is named (configured: cache-eu, q)" in said.answer


@pytest.mark.parametrize(
    ("message", "name", "value"),
    [
        ("what is mem_fragmentation_ratio", "mem_fragmentation_ratio", "Here it is 1.25. [E1]"),
        ("mem_fragmentation_ratio?", "mem_fragmentation_ratio", "Here it is 1.25. [E1]"),
        ("explain mem_fragmention_ratio", "mem_fragmentation_ratio", "Here it is 1.25. [E1]"),
        ("what does allocator_frag_bytes mean", "allocator_frag_bytes", "Here it is 3.0 MiB. [E1]"),
        ("meaning of maxmemory_policy", "maxmemory_policy", 'Here it is "noeviction". [E1]'),
        ("what does used memory mean", "used_memory", "Here it is 96.0 MiB. [E1]"),
        ("define evicted_keys", "evicted_keys", ""),
        ("what does R3 mean", "r3", ""),
        ("what is missing-ttl-prefix-leak", "missing-ttl-prefix-leak", ""),
        ("what does the parameter lfu-decay-time mean", "lfu-decay-time", ""),
    ],
)  # fmt: skip
async def test_what_a_name_means_and_what_it_is_here(message: str, name: str, value: str) -> None:
    memory = {**MEMORY, "mem_fragmentation_ratio": 1.25, "allocator_frag_bytes": 3 * MIB}
    said = await ask(
        message, incident=None, evidence=[piece(1, "memory_info", memory)], library=LIBRARY
    )
    assert said.answer.startswith(name), said.answer
    assert value in said.answer
    assert ("reference", name) in [(source.kind, source.id) for source in said.citations]


async def test_what_changed_since_the_incident_and_since_the_one_before() -> None:
    now = {**MEMORY, "used_memory": 50 * MIB, "maxmemory_policy": "allkeys-lru"}
    desk = Desk(memory_info=now, config_get={"parameters": {"maxmemory": "1", "save": ""}})
    before = [piece(1, "memory_info", {**MEMORY, "used_memory": 10 * MIB})]
    old = solved(id="A0", opened_at=AT)
    records = Kept(solved(), old, evidence={"A0": before})
    said = await ask("what has changed?", look=desk.look, records=records)
    assert "Since this incident was looked into:" in said.answer
    assert "Used memory went from 96.0 MiB to 50.0 MiB. [E1, E" in said.answer
    assert "The parameter maxmemory went from 100.0 MiB to 1 byte. [E4, E" in said.answer
    assert "Since the earlier incident A0:" in said.answer
    assert "Used memory went from 10.0 MiB to 96.0 MiB. [A0/E1, E1]" in said.answer
    assert "A0" in [source.id for source in said.citations if source.kind == "incident"]


async def test_what_another_incident_saw_is_not_what_is_different_now() -> None:
    """Its comparison is of its own time: since then somebody may have put it back."""
    when = {"last_before": "2026-11-16T01:00:00Z", "first_after": "2026-11-16T02:00:00Z"}
    compared = {"looks": 50, "since": "2026-11-16T01:00:00Z"}
    then = {"parameters": {"maxmemory": {"before": "9", "after": "5"} | when}} | compared
    records = Kept(
        solved(id="A0", opened_at=AT), evidence={"A0": [piece(1, "server_changes", then)]}
    )
    desk = Desk(server_changes=compared, key_changes=compared)
    said = await ask(
        "what changed?", incident=None, evidence=[], look=desk.look, records=records,
        target=solved().target,
    )  # fmt: skip
    assert "Nothing is different from 50 looks" in said.answer
    assert "The parameter maxmemory went from" not in said.answer
    still = Desk(server_changes=then, key_changes=compared)
    said = await ask("what changed?", incident=None, evidence=[], look=still.look, target="cache-1")
    assert "Since times in which nothing was wrong, seen 20" in said.answer


async def test_nothing_to_compare_with_is_said_so() -> None:
    said = await ask("what changed?", evidence=some_evidence(), records=Kept(incident()))
    assert "there is nothing to compare with" in said.answer
