"""Questions answered from record and evidence, without a model; nothing in them can write."""

import re
from collections.abc import Callable
from datetime import timedelta

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from agent.chat_intents import intent_of
from agent.chat_question import LONGEST_ANSWER, Question, Said
from agent.chat_rules import answer_topic, by_code
from agent.chat_sentences import TOPICS
from agent.chat_topics import asked_parameter, draft_of, tools_for
from agent.facts import compute, index, printed
from agent.incident import FactDraft, Overruled
from agent.runbook_library import load_library
from evals.servers import Server
from tests.agent.chatting import Kept, ask, evidence_of, looking, solved
from tests.agent.desk import AT, MIB, Desk, incident, library, piece, some_evidence
from tools.opening import open_for_reading
from tools.reading import Evidence
from tools.reads import READS

pytestmark = pytest.mark.usefixtures("close_samples")


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("What is wrong?", 'Keys under one prefix never expire.\n"session:" holds 60.0 MiB. [E2]'),
        ("why do you think so", '"session:" holds 60.0 MiB. [E2]'),
        ("How sure are you?", "Fairly sure, 82.0 %"),
        ("what should I do?", "A1: Give the keys under session: a TTL (R3, proposed)"),
        ("Is A1 safe?", "risk R3 (changes or expires data). Keys expire within a day."),
        ("Is A1 safe?", "Undo: PERSIST what was changed. Never touches: Keys that already expire."),
        ("what did you rule out", "does not read (a guess, 10.0 %): buffers are small"),
        ("What could not be measured?", "slowlog: NOPERM; clients: NOPERM: no permission"),
        ("what are the biggest keys?", 'The biggest key seen is "user:42:" ("hash"): it holds 3.0'),
        ("which prefix is it", '199,000 keys under it hold 60.0 MiB, 100.0 % of them never'),
        ("how is memory?", "96.0 MiB are used; 90.0 MiB of it counts against the limit"),
        ("what is maxmemory set to?", "maxmemory is 100.0 MiB. [E4]"),
        ("who approved A2?", "A2 (verified) was approved by ada (approver) at 2026-01-01 00:05"),
        ("what is in the config", "The main parameters; ask for another by its name."),
        ("what is in the config", "maxmemory is 100.0 MiB. [E4]"),
        ("what does A1 do?", "A1, Give the keys under session: a TTL: proposed (risk R3)."),
        ("did A2 work?", "A2, Raise maxmemory: verified (risk R1)."),
        ("which commands would it run", "A1, Give the keys under session: a TTL: proposed"),
        ("how bad is it?", "Severity critical; it is awaiting approval."),
        ("is it a false alarm", "Keys under one prefix never expire: an incident (fairly sure"),
        ("who decided, the model or the rules?", "Decided by rules: Keys under one prefix never"),
        ("what did it cost", "0 looks, 0.0 s; 0 model calls, 0 input and 0 output tokens."),
        ("which runbook did you use?", "No runbook was loaded."),
        ("which checks failed?", "no checklist was evaluated"),
        ("has this happened before?", "No earlier incident of cache-1 is on record."),
        ("what is E2?", "E2: bigkeys on 127.0.0.1:6379 (master), 2026-01-01 00:00:00 UTC"),
        ("what can you see?", "I never read the values of keys, and I change and approve nothing."),
        ("which servers do you know?", "No server is configured."),
        ("timeline please", "2026-01-01 00:05:00 UTC A2 approved by ada"),
        ("what did you do?", "A2, Raise maxmemory: verified."),
        ("what would you look at next?", "Of the plan, A1 comes first"),
    ],
)  # fmt: skip
async def test_answers_from_the_record_and_the_evidence(message: str, expected: str) -> None:
    said = await ask(message)
    assert expected in said.answer
    assert said.reasoner == "rules"


async def test_claims_carry_where_their_numbers_come_from() -> None:
    said = await ask("how is memory?")
    assert [fact.evidence for fact in said.claims[0].facts] == ["E1"] * 4
    assert said.claims[0].facts[0].value == 96 * MIB
    (source,) = said.citations
    assert (source.kind, source.id) == ("evidence", "E1")
    assert source.text.startswith("memory_info on 127.0.0.1:6379 (master), 2026-01-01")


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("which clients are connected?", "clients was not measured: NOPERM"),
        ("how is latency?", "slowlog was not run"),
        ("what is hz?", "the configuration parameter hz was not read"),
        ("what is the weather?", "no runbook speaks of it"),
    ],
)
async def test_what_is_not_known_is_said_so_with_what_could_be_asked(
    message: str, reason: str
) -> None:
    said = await ask(message)
    assert said.answer.startswith("I don't know")
    assert reason in said.answer
    assert "You can ask" in said.answer
    assert said.claims == []


@pytest.mark.parametrize(
    "message",
    ["how sure?", "what should I do?", "is it safe?", "what else could it be", "what changed?"],
)
async def test_without_a_diagnosis_nothing_is_made_up(message: str) -> None:
    said = await ask(message, incident=None, evidence=[])
    assert said.answer.startswith("I don't know")


@given(st.text(max_size=200))
def test_any_question_has_an_intent(message: str) -> None:
    assert intent_of(message)


@pytest.mark.parametrize(
    ("message", "name"),
    [
        ("what is maxmemory-policy", "maxmemory-policy"),
        ("the Eviction Policy?", "maxmemory-policy"),
        ("config maxmemory", "maxmemory"),
        ("client_output_buffer_limit?", "client-output-buffer-limit"),
        ("what is requirepass", ""),
        ("did the last save work?", ""),
        ("what is save?", "save"),
        ("are there timeouts", ""),
    ],
)
def test_a_parameter_is_recognised_by_name(message: str, name: str) -> None:
    assert asked_parameter(message) == name


async def test_doubt_is_told_with_its_reasons() -> None:
    case = solved()
    assert case.diagnosis is not None
    lost = Overruled(
        reasoner="openai:m", root_cause="single-bigkey", confidence=0.9, reason="they differ"
    )
    case.diagnosis = case.diagnosis.model_copy(update={"overruled": lost, "escalate": True})
    said = await ask("how sure are you", incident=case)
    assert "openai:m said single-bigkey (very sure, 90.0 %); overruled: they differ." in said.answer
    assert "A person should look" in said.answer


async def test_nothing_missing_is_said_so() -> None:
    said = await ask("what was not measured?", incident=None, evidence=some_evidence()[:2])
    assert said.answer == "Every look that was taken was answered."


async def test_preconditions_that_do_not_hold_are_part_of_the_risk() -> None:
    said = await ask("what is the risk?")
    assert "Preconditions that hold: it is the primary." in said.answer
    assert "do not hold or were not measured: the owner agrees (nobody was asked)." in said.answer


async def test_a_topic_the_server_reports_nothing_for() -> None:
    evidence = [piece(1, "stream_info", {"streams": [], "found": 0})]
    said = await ask("any streams?", incident=None, evidence=evidence)
    assert said.answer == "The server reports nothing for streams."


async def test_several_questions_in_one_are_all_answered() -> None:
    said = await ask("What is wrong, how sure are you and is A1 safe?")
    for expected in ("never expire.", "Fairly sure, 82.0 %", "risk R3 (changes or expires data)"):
        assert expected in said.answer
    both = await ask("biggest keys and connected clients?")
    assert "The biggest key seen is" in both.answer
    assert "clients was not measured" in both.answer


async def test_what_was_seen_before_is_told_with_its_cause() -> None:
    records = Kept(
        solved(id="I1"), solved(id="I0"), incident(id="H9", status="closed"), solved(id="J2")
    )
    said = await ask("has this happened before?", records=records)
    assert said.answer.startswith("2 earlier incidents of cache-1, 1 with this cause:")
    assert [source.id for source in said.citations] == ["I0", "H9"]


# -- all incidents --------------------------------------------------------------------------


async def test_all_incidents_are_listed_open_ones_first() -> None:
    over = solved(id="inc-b", status="resolved", target="cache-2", severity="warning")
    waits = solved(id="inc-a")
    said = await ask("status of all incidents", incident=None, records=Kept(over, waits))
    first, *lines = said.answer.splitlines()
    assert first == "1 open, 1 over, of the newest 2:"
    assert lines[0].startswith("inc-a cache-1, critical, awaiting approval, opened ")
    assert lines[0].endswith("ago: Keys under one prefix never expire.")
    assert lines[1].startswith("inc-b cache-2, warning, resolved, opened ")
    assert [source.id for source in said.citations] == ["inc-a", "inc-b"]


async def test_no_incident_is_said_so() -> None:
    said = await ask("status of all incidents", incident=None, evidence=[], records=Kept())
    assert said.answer == "There is no incident on record."


async def test_a_question_about_a_server_finds_its_open_incident() -> None:
    records = Kept(incident(id="inc-old", status="closed"), solved(id="inc-open"))
    said = await ask(
        "is it safe to apply?", incident=None, evidence=[], target="cache-1", records=records
    )
    assert said.answer.startswith("About inc-open on cache-1, which is open:")
    assert "Undo: PERSIST what was changed." in said.answer


async def test_of_several_open_incidents_none_is_guessed() -> None:
    records = Kept(solved(id="inc-1"), solved(id="inc-2", target="cache-2"))
    said = await ask("is it safe to apply?", incident=None, evidence=[], records=records)
    assert "no plan is on record" in said.answer


async def test_without_a_plan_the_runbooks_advise_on_what_is_named() -> None:
    said = await ask("how do I fix a stream?", incident=None, evidence=[], library=load_library())
    assert said.answer.startswith("No plan is on record. The runbooks say:")
    assert "Runbook stream-unbounded" in said.answer
    said = await ask("what should I do?", incident=None, evidence=[])
    assert said.answer.startswith("I don't know: no plan is on record")


async def test_why_without_a_server_says_that_none_is_named() -> None:
    said = await ask("why is it like that?", incident=None, evidence=[])
    assert "no server is named" in said.answer


# -- what is said is harmless and bounded ---------------------------------------------------


async def test_hostile_names_arrive_as_printable_text() -> None:
    case = solved(ended_because="done\x1b[2J\u202eevil\nA1 approved")
    said = await ask("status of all incidents", records=Kept(case))
    assert all(line.isprintable() for line in said.answer.splitlines())
    assert "done\\x1b[2J\\u202eevil\\nA1 approved" in said.answer


def test_an_answer_is_bounded() -> None:
    said = Said(["x" * 3_000] * 40)
    assert len(said.text) < LONGEST_ANSWER + 100
    assert said.text.endswith("(cut: ask for a part of it)")


async def test_follow_ups_ask_the_same_again() -> None:
    history = [{"role": "user", "content": "how is memory?"}, {"role": "assistant", "content": "…"}]
    said = await ask("and, well?", history=history)
    assert "96.0 MiB are used" in said.answer


def test_every_sentence_names_fields_that_its_reading_has() -> None:
    """A path that no reading has would silence its sentence for ever."""
    for topic, sentences in TOPICS.items():
        for sentence in sentences:
            for fact in draft_of(sentence.text, "E1").facts:
                for path in fact.of:
                    model = sentence.kind
                    steps = path.split(".")
                    if sentence.rows:
                        steps = [sentence.rows, "0", *steps]
                    assert steps[0] in model.model_fields, (topic, path)
                    if len(steps) == 3:
                        row = model.model_fields[steps[0]].annotation.__args__[0]  # type: ignore[union-attr]
                        row = getattr(row, "__args__", (row,))[0]  # of a list that may be missing
                        assert steps[2] in row.model_fields, (topic, path)


# -- real servers ----------------------------------------------------------------------------


async def test_it_looks_at_a_real_server_for_what_nobody_has_seen(server: Server) -> None:
    with redis.Redis(port=server.port) as client:
        client.hset("cart:big", mapping={f"f{n}": "x" * 200 for n in range(2_000)})
        client.config_set("maxmemory", 64 * MIB)
    connection = await open_for_reading(server.url)
    seen: list[Evidence] = []
    told: list[str] = []

    async def progress(what: str) -> None:
        told.append(what)

    async def asked(message: str) -> str:
        look = looking(connection, seen)
        said = await ask(message, incident=None, evidence=seen, look=look, progress=progress)
        assert set(evidence_of(said)) <= {p.id for p in seen}
        return said.answer

    assert '"cart:big" ("hash")' in await asked("biggest keys?")
    assert told == ["looking at bigkeys"]
    assert "64.0 MiB" in await asked("what is maxmemory")
    assert "are used" in await asked("how much memory is used?")
    assert "clients are connected" in await asked("who is connected?")
    assert "slow log holds" in await asked("is it slow?")
    assert '"master"' in await asked("what about replicas?")
    assert "has run for" in await asked("which version is it?")
    fragmentation = await asked("what is mem_fragmentation_ratio?")
    reading = next(p.reading for p in seen if p.tool == "memory_info")
    assert "used_memory_rss divided by used_memory" in fragmentation
    assert f"{reading['mem_fragmentation_ratio']:g}"[:4] in fragmentation
    await connection.close()


async def test_it_says_what_is_wrong_with_a_real_server(
    start_server: Callable[..., Server],
) -> None:
    server = start_server("valkey-9.1", "--maxmemory", "30mb")
    with redis.Redis(port=server.port) as client:
        for start in range(0, 20_000, 4_000):
            pipe = client.pipeline(transaction=False)
            for n in range(start, start + 4_000):
                pipe.set(f"session:{n}", "x" * 1_200)
            pipe.execute(raise_on_error=False)
    connection = await open_for_reading(server.url)
    seen: list[Evidence] = []
    said = await ask(
        "what is wrong?", incident=None, evidence=[], library=load_library(),
        look=looking(connection, seen),
    )  # fmt: skip
    await connection.close()
    assert "“session:”" in said.answer, said.answer
    assert said.claims
    assert set(evidence_of(said)) <= {e.id for e in seen}


@pytest.mark.parametrize("build", ["valkey-9.1", "redis-6.2"])
async def test_every_number_about_a_server_is_one_of_its_evidence(
    start_server: Callable[..., Server], build: str
) -> None:
    server = start_server(build)
    with redis.Redis(port=server.port) as client:
        for n in range(300):
            client.set(f"session:{n}", "x" * 100, ex=1_000 if n % 3 else None)
        client.xadd("orders", {"a": "b"})
        client.execute_command("CONFIG", "SET", "slowlog-log-slower-than", "0")
        client.eval("return 1", 0)
    connection = await open_for_reading(server.url)
    seen: list[Evidence] = []
    question = Question("?", None, seen, library(), looking(connection, seen))
    await question.fill(list(dict.fromkeys(tool for each in TOPICS for tool in tools_for(each))))
    for topic in sorted(TOPICS):
        said = await answer_topic(question, topic)
        for claim in said.claims:
            held = " ".join(printed(fact) for fact in claim.facts)
            bare = set(re.findall(r"\d+(?:[.,]\d+)*", claim.text)) - set(
                re.findall(r"\d+(?:[.,]\d+)*", held)
            )
            assert bare == set(), (topic, claim.text)
            for fact in claim.facts:
                draft = FactDraft(**fact.model_dump(exclude={"value"}))
                assert compute(draft, index(seen)).value == fact.value
        assert said.claims or "don't know" in said.text or "nothing for" in said.text
    await connection.close()


async def test_whether_it_is_healthy_is_looked_at_now() -> None:
    desk = Desk()
    said = await ask("is it still healthy?", look=desk.look)
    assert said.answer.startswith("Looked at now:")
    assert {"memory_info", "stats", "bigkeys"} <= {tool for tool, _ in desk.looks}
    assert all(tool in READS for tool, _ in desk.looks)


async def test_ages_count_from_the_opening() -> None:
    question = Question(
        "status of all incidents", None, [], library(), None, records=Kept(solved())
    )
    question.now = AT + timedelta(hours=2, minutes=5)

    said = await by_code(question)
    assert said is not None
    assert "opened 2 h 5 min ago" in said.text
