"""Incidents in typed readings: what the rules make of them."""

from collections.abc import Sequence
from typing import Any

import pytest

from agent.claims import check
from agent.context import Case
from agent.exchange import Ledger
from agent.incident import Alert, DiagnosisDraft, Incident
from agent.ranking import rank
from agent.rules import BASELINE, ESSENTIAL, MOST_LOOKS, Rules, conclude
from agent.runbook import Library
from agent.runbook_library import load_library
from agent.signals import detect
from tests.agent.readings import (
    AT,
    MIB,
    bigkeys,
    client,
    clients,
    commands,
    errors,
    evidence,
    key,
    keyspace,
    memory,
    refused,
    stats,
    stream,
    streams,
)
from tests.agent.stories import EVENTS, FULL, OOM, SESSIONS, STORIES, Story, quiet
from tools.reading import Evidence
from tools.reads import READS


@pytest.fixture(scope="module")
def library() -> Library:
    return load_library()


def judged(library: Library, pieces: Sequence[Evidence], text: str = "") -> DiagnosisDraft:
    signals = detect(pieces)
    because = {p.tool: "NOPERM" for p in pieces if not p.measured}
    draft = conclude(signals, rank(signals, library, text), because)
    diagnosis = check(draft, pieces, library)
    assert not isinstance(diagnosis, list), diagnosis  # every number can be computed
    return draft


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.name)
def test_story(library: Library, story: Story) -> None:
    draft = judged(library, quiet(*story.seen), story.text)
    assert draft.root_cause == story.cause
    assert draft.culprit == story.culprit
    assert set(story.contributing) <= set(draft.contributing)
    assert story.sure <= draft.confidence <= 0.95
    assert draft.escalate == (draft.confidence < 0.5 or draft.root_cause == "unknown")


def test_two_faults_at_once_are_both_named_and_cost_confidence(library: Library) -> None:
    both = [
        memory(99 * MIB, 100 * MIB, mem_clients_normal=45 * MIB),
        clients(client("ticker", "pubsub", output_bytes=45 * MIB)),
        bigkeys([key("feed:all", "hash", 45 * MIB, 600_000)], keys=5),
    ]
    alone = judged(library, quiet(*both[:2]))
    draft = judged(library, quiet(*both))
    assert {draft.root_cause, *draft.contributing} >= {"slow-pubsub-cob", "single-bigkey"}
    assert draft.confidence < alone.confidence


def test_a_weaker_second_fault_is_named_beside_a_certain_first(library: Library) -> None:
    seen = quiet(
        memory(180 * MIB, 200 * MIB, mem_clients_normal=90 * MIB),
        clients(client("ticker", "pubsub", output_bytes=90 * MIB)),
        bigkeys([key("feed:all", "hash", 45 * MIB, 600_000)], keys=5),
    )
    draft = judged(library, seen)
    assert draft.root_cause == "slow-pubsub-cob"
    assert draft.contributing == ["single-bigkey"]


def test_what_hurts_and_nothing_explains_is_unknown(library: Library) -> None:
    """Not healthy, not full by design; and surer the less any known cause fits."""
    full = memory(199 * MIB, 200 * MIB, maxmemory_policy="allkeys-lru")
    cache = [full, stats(evicted_keys_per_second=2.0), commands(10.0, 100.0)]
    wrong = errors(("WRONGTYPE", 900, 40.0))
    assert judged(library, quiet(*cache)).root_cause == "cache-full-by-design"
    assert judged(library, quiet(wrong)).root_cause == "unknown"
    draft = judged(library, quiet(*cache, wrong))
    assert (draft.root_cause, draft.escalate) == ("unknown", True)
    assert draft.confidence > 0.8
    assert any("WRONGTYPE" in fact.of[0] or fact.name == "code"
               for claim in draft.claims for fact in claim.facts)  # fmt: skip
    blind = [piece for piece in quiet(*cache, wrong) if piece.tool not in ("bigkeys", "clients")]
    assert judged(library, [*blind, *refused("bigkeys", "clients")]).confidence < draft.confidence


def test_a_full_server_is_not_its_own_cause_while_clients_hold_the_memory(
    library: Library,
) -> None:
    """Whose buffer it is could not be seen: more room would be no cure."""
    held = memory(100 * MIB, 100 * MIB, mem_clients_normal=70 * MIB)
    seen = [p for p in quiet(held, OOM, keyspace(900, 800)) if p.tool != "clients"]
    draft = judged(library, [*seen, *refused("clients")])
    assert draft.root_cause == "unknown"
    assert draft.contributing == ["noeviction-oom"]


def test_info_alone_still_answers_with_what_was_not_measured(library: Library) -> None:
    denied = refused("bigkeys", "clients", "memory_stats", "stream_info", "config_get")
    pieces = [*evidence(FULL, stats(), keyspace(200_000, 0), OOM, commands()), *denied]
    whole = judged(library, quiet(FULL, OOM, keyspace(200_000, 0), bigkeys([])))
    draft = judged(library, pieces)
    assert draft.root_cause == whole.root_cause == "noeviction-oom"
    assert draft.confidence < whole.confidence
    assert any(line.startswith("bigkeys:") for line in draft.not_measured)


def test_info_alone_of_a_healthy_server(library: Library) -> None:
    pieces = [
        *evidence(memory(9 * MIB, 100 * MIB), stats(), keyspace(10, 0), errors()),
        *refused("bigkeys", "clients"),
    ]
    draft = judged(library, pieces)
    assert draft.root_cause == "no-incident"
    assert draft.confidence < 0.8
    assert len(draft.not_measured) >= 2


def test_nothing_measured_is_unknown_not_healthy(library: Library) -> None:
    draft = judged(library, refused(*BASELINE))
    assert (draft.root_cause, draft.escalate) == ("unknown", True)
    assert draft.confidence <= 0.5
    assert len(draft.not_measured) >= len(BASELINE)


def test_alternatives_say_why_not(library: Library) -> None:
    pieces = quiet(FULL, EVENTS, streams(stream("events", 80 * MIB, 400_000, 390_000, 900.0)))
    draft = judged(library, pieces)
    told = {other.root_cause: other.why_not for other in draft.alternatives}
    assert "never acknowledged" in told["stream-unbounded"]


def test_less_measured_is_less_sure(library: Library) -> None:
    whole = quiet(FULL, OOM, SESSIONS, keyspace(200_000, 500))
    part = [piece for piece in whole if piece.tool not in ("memory_info", "keyspace")]
    causes = {one.cause: one for one in rank(detect(whole), library)}
    fewer = rank(detect(part), library)
    leak = next((one for one in fewer if one.cause == "missing-ttl-prefix-leak"), None)
    assert leak is None or leak.confidence < causes["missing-ttl-prefix-leak"].confidence


class Desk:
    """A case that answers looks from a shelf of readings."""

    def __init__(self, library: Library, shelf: Sequence[Evidence], seen: Sequence[str]) -> None:
        self.incident = Incident(
            id="I1", status="investigating", severity="warning", title="", target="cache-1",
            opened_at=AT, updated_at=AT,
            alerts=[Alert(source="generic", name="RedisMemoryHigh", fingerprint="f", starts_at=AT)],
        )  # fmt: skip
        self.runbooks = library
        self.evidence = [piece for piece in shelf if piece.tool in seen]
        self.looks: list[tuple[str, dict[str, Any]]] = []
        self._shelf = shelf

    async def look(self, tool: str, arguments: dict[str, Any]) -> Evidence:
        for piece in self.evidence:
            if piece.tool == tool and piece.args == arguments:
                return piece
        self.looks.append((tool, arguments))
        found = next((p for p in self._shelf if p.tool == tool), refused(tool)[0])
        piece = found.model_copy(update={"args": arguments, "id": f"E{100 + len(self.looks)}"})
        self.evidence.append(piece)
        return piece

    @property
    def ledger(self) -> Ledger:
        raise AssertionError("the rules call no model")


async def test_the_rules_look_where_the_candidates_differ(library: Library) -> None:
    """The baseline shows a large stream; only XINFO tells why it is large."""
    shelf = quiet(FULL, EVENTS, streams(stream("events", 80 * MIB, 400_000, 390_000, 900.0)))
    desk = Desk(library, shelf, [tool for tool in BASELINE if tool != "stream_info"])
    case: Case = desk
    draft = await Rules().investigate(case)
    assert draft.root_cause == "stream-pel-growth"
    assert ["events"] in [arguments.get("keys") for _, arguments in desk.looks]
    assert len(desk.looks) <= MOST_LOOKS
    again = await Rules().investigate(case)
    assert (again.root_cause, again.culprit) == (draft.root_cause, draft.culprit)


async def test_essential_looks_are_taken_even_if_no_runbook_asked(library: Library) -> None:
    desk = Desk(library, quiet(), [])
    draft = await Rules(library).investigate(desk)
    assert draft.root_cause == "no-incident"
    assert {tool for tool, _ in desk.looks} >= set(ESSENTIAL)


def test_every_runbook_names_signals_tools_and_culprits_that_exist(library: Library) -> None:
    from agent.signals import SIGNALS

    for cause in library.causes().values():
        named = {*cause.needs, *cause.supported_by, *cause.ruled_out_by, *cause.asked}
        assert named <= set(SIGNALS), cause.id
        assert {ask.tool for ask in cause.ask_next} <= set(READS), cause.id
