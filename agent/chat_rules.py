"""Answers by code: from an incident's record, its evidence, further read-only looks, runbooks."""

import re
from collections.abc import Awaitable, Callable, Sequence

from agent.changes_told import KEYS, SERVER, nothing_told
from agent.changes_told import changes as since_healthy_times
from agent.chat_changes import QUICK, Changes, changes, first_and_last
from agent.chat_intents import asked_name, intent_of, normalised, parts_of
from agent.chat_question import (
    CAN_ASK,
    MOST_CLAIMS,
    Citation,
    Question,
    Said,
    about_incident,
    dont_know,
    look_of,
    quoted,
)
from agent.chat_record import OPEN, RECORD, abilities, all_incidents, targets
from agent.chat_refusal import asks_to_act, how_to_approve, refuse
from agent.chat_sentences import TOPICS
from agent.chat_topics import (
    asked_parameter,
    because,
    draft_of,
    kinds_of,
    latest,
    say,
    say_parameter,
    tools_for,
)
from agent.chat_wordings import Intent
from agent.claims import check, check_claim
from agent.facts import dimension, index
from agent.glossary import Term, term_of
from agent.incident import Claim, Diagnosis
from agent.rules import ESSENTIAL, conclude, rank
from agent.signals import detect
from tools.reading import Evidence

MOST_PASSAGES = 2
_ASKS_A_VALUE = re.compile(r"^\W*(how (many|much|big|large|is|are)|is|are|any|who|which) ")


async def by_code(question: Question) -> Said | None:
    """The answer, where code alone may give it: refusals, the record, what a name means."""
    if asks_to_act(question.message):
        return await refuse(question)
    name = asked_name(question.message)
    if name and (term := term_of(name, question.library)) is not None:
        return await _meaning(question, term)
    if (piece := _asked_piece(question)) is not None:
        where = Citation(kind="evidence", id=piece.id, text=look_of(piece))
        return Said([f"{piece.id}: {look_of(piece)}."], citations=[where])
    intents = [intent_of(part) for part in parts_of(question.message)]
    if any(intent not in _BY_CODE for intent in intents):
        return None
    said = Said([await _adopted(question)] if any(one in RECORD for one in intents) else [])
    for intent in intents:
        said = said + await _BY_CODE[intent](question)
    return said


def _asked_piece(question: Question) -> Evidence | None:
    """The piece of evidence that a question names: `what is E2?`."""
    named = re.search(r"(?<![\w/])E\d{1,6}(?!\w)", question.message)
    return next((p for p in question.evidence if named and p.id == named[0]), None)


async def _adopted(question: Question) -> str:
    """For the record of no incident in particular: the one that is open on this server, if one is.

    Returns what is to be said about it; empty if the question named its incident, or none fits.
    """
    if question.incident is not None:
        return ""
    found = [i for i in await question.records.recent(question.target) if i.status in OPEN]
    if not found or (len(found) > 1 and not question.target):
        return ""
    question.incident = found[0]
    question.evidence = await question.records.evidence(found[0].id)
    return f"About {found[0].id} on {found[0].target or 'no target'}, which is open:"


async def by_rules(question: Question) -> Said:
    """An answer without a model, where code had none."""
    parts = parts_of(question.message)
    if len(parts) == 1:
        return await _by_intent(question, _followed(question, intent_of(question.message)))
    said = Said()
    for part in parts:
        intent = intent_of(part)
        answered = (
            _BY_CODE[intent](question) if intent in _BY_CODE else _by_intent(question, intent)
        )
        said = said + await answered
    return said


async def _by_intent(question: Question, intent: Intent) -> Said:
    if intent == "help":
        return Said([f"I read and explain; I change nothing. {CAN_ASK}"])
    if question.general or intent == "advice":
        return await _from_runbooks(question, intent)
    if intent == "config":
        return await _config(question)
    if intent in TOPICS:
        return await answer_topic(question, intent)
    if intent == "healthy":
        return await _healthy(question)
    if intent in ("wrong", "why"):
        return await (_why(question) if intent == "why" else _wrong(question))
    return await _from_runbooks(question, intent)


def _followed(question: Question, intent: Intent) -> Intent:
    """`and now?`, `tell me more`: what was asked before is asked again."""
    short = len(question.message.split()) <= 4
    if intent != "other" or not short or not question.history:
        return intent
    said = [turn.get("content", "") for turn in question.history if turn.get("role") == "user"]
    return next((before for each in reversed(said) if (before := intent_of(each)) != "other"),
                intent)  # fmt: skip


async def _wrong(question: Question) -> Said:
    diagnosis = question.diagnosis
    if diagnosis is not None and question.incident is not None:
        return _diagnosed(diagnosis, [about_incident(question.incident)])
    if question.incident is not None and not question.incident.evidence:
        await question.tell(f"{question.incident.id} is {question.incident.status}")
    await question.fill(ESSENTIAL)
    return _as_the_rules_see_it(question, question.evidence)


async def _healthy(question: Question) -> Said:
    """A quick look now, whatever was seen before."""
    fresh = await question.look_again(ESSENTIAL)
    if not fresh:
        return await _wrong(question)
    return Said(["Looked at now:"]) + _as_the_rules_see_it(question, fresh)


def _as_the_rules_see_it(question: Question, evidence: Sequence[Evidence]) -> Said:
    """The rules' conclusion from what was measured so far."""
    if not any(piece.measured for piece in evidence):
        return dont_know("; ".join(_gaps(evidence)[:3]) or "nothing was measured yet")
    signals = detect(evidence)
    ranked = rank(signals, question.library, question.message)
    measured = {piece.tool for piece in evidence if piece.measured}
    failed = {piece.tool: because(piece) for piece in evidence if not piece.measured}
    unseen = {tool: failed.get(tool, "was not run") for tool in ESSENTIAL if tool not in measured}
    diagnosis = check(conclude(signals, ranked, unseen), evidence, question.library)
    if not isinstance(diagnosis, Diagnosis):
        return dont_know("; ".join(diagnosis[:3]))
    gaps = [f"Not measured: {'; '.join(diagnosis.not_measured[:4])}."]
    return _diagnosed(diagnosis) + Said(gaps if diagnosis.not_measured else [])


def _diagnosed(diagnosis: Diagnosis, sources: Sequence[Citation] = ()) -> Said:
    """What is wrong and how sure, and the first claims: a summary ends with the first of them."""
    claims = diagnosis.claims[:4]
    head = diagnosis.summary.removesuffix(claims[0].text).strip() if claims else diagnosis.summary
    return Said([head], claims, sources)


async def _why(question: Question) -> Said:
    diagnosis = question.diagnosis
    if diagnosis is None or question.incident is None:
        await question.fill(ESSENTIAL)
        return _as_the_rules_see_it(question, question.evidence)
    if not diagnosis.grounds:
        return dont_know("no evidence speaks for a cause")
    source = [about_incident(question.incident)]
    return Said([f"{diagnosis.title.rstrip('.')}, because:"], diagnosis.grounds, source)


async def answer_topic(question: Question, topic: str) -> Said:
    """What the readings of a topic say; looked for if nobody has looked yet."""
    await question.fill(tools_for(topic))
    claims, gaps = say(topic, question.evidence)
    if not claims:
        looked = any(latest(question.evidence, kind) for kind in kinds_of(topic))
        if looked and not gaps:
            return Said([f"The server reports nothing for {topic.replace('_', ' ')}."])
        return dont_know("; ".join(gaps[:3]))
    plain = [f"Not measured: {'; '.join(gaps[:3])}."] if gaps else []
    return Said(plain, claims[:MOST_CLAIMS])


MAIN_PARAMETERS = (
    "maxmemory", "maxmemory-policy", "maxclients", "appendonly", "save", "repl-backlog-size",
    "client-output-buffer-limit", "timeout",
)  # fmt: skip


async def _config(question: Question) -> Said:
    """The parameter that is named; else the main ones."""
    name = asked_parameter(normalised(question.message))
    if name:
        said = await _parameter(question, name)
        return Said((), [said]) if isinstance(said, Claim) else dont_know("; ".join(said))
    await question.fill(["config_get"])
    all_said = [say_parameter(each, question.evidence) for each in MAIN_PARAMETERS]
    claims = [said for said in all_said if isinstance(said, Claim)]
    if not claims:
        return dont_know("the configuration was not read; passwords are never read")
    return Said(["The main parameters; ask for another by its name."], claims)


async def _parameter(question: Question, name: str) -> Claim | list[str]:
    said = say_parameter(name, question.evidence)
    if not isinstance(said, Claim) and question.look is not None:
        await question.seen("config_get", {"parameters": [name]})
        said = say_parameter(name, question.evidence)
    return said


async def _meaning(question: Question, term: Term) -> Said:
    """What a name means, its value here, and where the runbooks speak of it."""
    source = f" ({term.source})" if term.source else ""
    meaning = term.meaning or "INFO's own name for it; I have no further explanation"
    where = Citation(kind="reference", id=term.name, text=meaning)
    said = Said([f"{term.name}{source}: {meaning}"], citations=[where])
    value = await _value_of(question, term)
    said = said + Said(claims=[value] if value else [])
    for passage in question.search.find(term.name, 1):
        said = said + quoted(passage, question.search.quote(passage, term.name))
    return said


async def _value_of(question: Question, term: Term) -> Claim | None:
    """Its value on the server in question, where there is one and it is one value."""
    if not term.path or (question.look is None and not question.evidence):
        return None
    if term.tool == "config_get":
        said = await _parameter(question, term.name)
        return said if isinstance(said, Claim) else None
    await question.fill([term.tool])
    seen = [piece for piece in question.evidence if piece.tool == term.tool and piece.measured]
    if not seen:
        return None
    held = seen[-1].reading.get(term.path)
    unit = "text" if isinstance(held, str) else dimension(term.path)
    draft = draft_of(f"Here it is {{{term.path}:{unit}}}.", seen[-1].id)
    said = check_claim(draft, index(seen), ours=True)
    return said if isinstance(said, Claim) else None


async def _changed(question: Question) -> Said:
    """Now against then, this incident against the one before, and how fast it moves."""
    then = list(question.evidence)
    fresh = await question.look_again(QUICK)
    said = Said()
    if question.incident is not None:
        before, after = (then, fresh) if fresh else first_and_last(then)
        said = said + _told("Since this incident was looked into", changes(before, after))
    now = await _since_healthy_times(question)  # before what another incident saw is brought in
    earlier = await _earlier(question)
    if earlier is not None:
        name, evidence = earlier
        since = f"Since the earlier incident {name}"
        told = _told(since, changes(evidence, then or fresh))
        told.citations.append(Citation(kind="incident", id=name))
        said = said + told
    said = said + now
    if not said.parts:
        await question.fill(tools_for("growth"))
    claims, _ = say("growth", question.evidence)
    said = said + Said((), claims)
    if not said.parts:
        return dont_know("there is nothing to compare with: no two looks at the same thing")
    return said


async def _since_healthy_times(question: Question) -> Said:
    """What is different from the looks that were kept while nothing was wrong."""
    await question.fill([SERVER, KEYS])
    if claims := since_healthy_times(question.evidence):
        seen = max(p.taken_at for p in question.evidence if p.tool in (SERVER, KEYS))
        head = f"Since times in which nothing was wrong, seen {seen:%Y-%m-%d %H:%M} UTC:"
        return Said([head], claims)
    nothing = nothing_told(question.evidence)
    return Said([nothing] if nothing else [])


async def _earlier(question: Question) -> tuple[str, list[Evidence]] | None:
    """The evidence of the target's incident before this one, under ids of its own."""
    target = question.incident.target if question.incident else question.target
    if not target:
        return None
    own = question.incident.id if question.incident else None
    for incident in await question.records.recent(target):
        if incident.id != own and incident.evidence and (own is None or incident.id < own):
            evidence = await question.records.evidence(incident.id)
            named = [p.model_copy(update={"id": f"{incident.id}/{p.id}"}) for p in evidence]
            question.evidence.extend(piece for piece in named if piece.measured)
            return incident.id, named
    return None


def _told(since: str, found: Changes) -> Said:
    if not found.claims and not found.same:
        return Said()
    same = ", ".join(dict.fromkeys(found.same))
    plain = [f"{since}:"] if found.claims else []
    if same:
        plain.append(f"{'Unchanged' if found.claims else f'{since}, unchanged'}: {same}.")
    return Said(plain, found.claims)


_BY_CODE: dict[Intent, Callable[[Question], Awaitable[Said]]] = {
    "abilities": abilities,
    "all": all_incidents,
    "approve": how_to_approve,
    "changed": _changed,
    "targets": targets,
    **RECORD,
}
"""Questions about the record: told by code from the record, with a model as without."""


async def _from_runbooks(question: Question, intent: Intent) -> Said:
    """What the runbooks say, word for word."""
    passages = question.search.find(question.message, MOST_PASSAGES)
    if passages:
        unmeasured = question.general and _ASKS_A_VALUE.search(normalised(question.message))
        said = Said([f"Nothing was measured: {_name_one(question)}."] if unmeasured else [])
        for passage in passages:
            said = said + quoted(passage, question.search.quote(passage, question.message))
        return said
    if question.general and intent in ("wrong", "healthy", "why"):
        nameless = f"To look at one: {_name_one(question)}."
        return await all_incidents(question) + Said([nameless])
    if question.general and (intent in TOPICS or intent == "config"):
        return dont_know(f"{_name_one(question)}, and the runbooks say nothing about it")
    if intent in TOPICS:
        return await answer_topic(question, intent)
    return dont_know("no look that I can take shows that, and no runbook speaks of it")


def _name_one(question: Question) -> str:
    names = ", ".join(question.targets[:20])
    return (
        f"no server is named (configured: {names})" if names else "no server is named or configured"
    )


def _gaps(evidence: Sequence[Evidence]) -> list[str]:
    return [f"{piece.tool}: {because(piece)}" for piece in evidence if not piece.measured]
