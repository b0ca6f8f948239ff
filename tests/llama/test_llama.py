"""The agent with a real language model that cannot help: SmolLM2-135M behind llama.cpp.

It takes functions and ignores them, repeats the prompt, invents evidence. What is decided must be
what the rules decide, in the time that was allowed.
"""

import asyncio
import json
import random
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from agent.budget import ModelSettings
from agent.chat import answer
from agent.context import Case
from agent.exchange import Exchange
from agent.functions import strict_function
from agent.incident import DiagnosisDraft
from agent.memory_journal import MemoryLedger
from agent.model import UNHEEDED, Model
from agent.reasoner import OpenAIReasoner
from agent.run import investigate
from agent.runbook import Library
from agent.runbook_library import load_library
from evals.result import Result
from evals.run import check_facts, diagnose, opened, work
from evals.truth import incidents
from tools import recording_file

pytestmark = pytest.mark.timeout(400)

LIBRARY = load_library()
FIRST, *SAMPLE = random.Random(219).sample(incidents(), 4)
FEW = Library(
    runbooks=[
        book for book in LIBRARY.runbooks if book.id in ("memory-pressure", *FIRST.truth.root_cause)
    ]
)
"""What its causes and their runbooks take, it reads within half a minute of a core."""
SAY_HI = {"role": "user", "content": "Say hi."}
PATIENT_SECONDS = 240.0
"""Long enough for this model to read the prompt and to answer on a core that others want too; it
takes half a minute on one of its own."""
SHORT_SECONDS = 1.0
SLACK_SECONDS = 5.0
"""For the agent's own work around the model, on a busy machine."""


class Timed(OpenAIReasoner):
    """How long the model was at work, and what it said."""

    seconds = 0.0

    async def investigate(
        self, case: Case, previous: DiagnosisDraft | None = None, mismatches: Sequence[str] = ()
    ) -> DiagnosisDraft:
        started = time.monotonic()
        try:
            return await super().investigate(case, previous, mismatches)
        finally:
            self.seconds += time.monotonic() - started


def settings(url: str, seconds: float) -> ModelSettings:
    return ModelSettings(
        model="SmolLM2-135M-Instruct",
        base_url=url,
        max_calls=2,
        max_answer_tokens=60,
        seconds_per_call=seconds,
        idle_seconds=seconds,
        seconds_per_incident=seconds,
        options={"temperature": 0.3, "seed": 1, "dry_multiplier": 0.8},
    )


def outcome(result: Result) -> Any:
    """What is scored, without whose words it is in."""
    said = result.diagnosis
    assert said is not None, result.failure
    actions = [(each.kind, each.arguments, each.executable) for each in result.actions]
    return said.root_cause, said.is_incident, said.culprit, set(said.contributing), actions


def replies(exchanges: Sequence[Exchange]) -> list[str]:
    return [str(each.reply["content"]) for each in exchanges if each.reply]


@pytest.mark.long
async def test_it_answers_in_time_and_nothing_it_invents_survives(llama: str) -> None:
    model = Model(replace(settings(llama, PATIENT_SECONDS), max_calls=1, context_window=3_400))
    model.manners = replace(model.manners, functions=False)  # learnt after two deaf replies
    mind = Timed(model, FEW)
    context = opened(FIRST, FEW, mind)
    try:
        worked = await investigate(context, await context.journal.incident())
    finally:
        await model.close()
    alone, _ = await diagnose(FIRST, FEW)
    ledger = context.journal.ledger
    assert isinstance(ledger, MemoryLedger)
    said = replies(ledger.exchanges)
    assert any('"root_cause"' in text for text in said), [each.failure for each in ledger.exchanges]
    assert mind.seconds <= PATIENT_SECONDS + SLACK_SECONDS
    assert worked.diagnosis
    assert alone.diagnosis
    assert worked.diagnosis.root_cause == alone.diagnosis.root_cause
    assert worked.diagnosis.culprit == alone.diagnosis.culprit
    recording = recording_file.read(FIRST.recording)
    checked = await check_facts(recording, worked.diagnosis, await context.journal.evidence())
    assert checked
    assert all(fact.exists and fact.recomputes for fact in checked)


async def test_a_sample_is_scored_as_by_the_rules_within_the_cap(llama: str) -> None:
    model = Model(settings(llama, SHORT_SECONDS))
    try:
        for recorded in SAMPLE:
            mind = Timed(model, LIBRARY)
            with_model = await work(recorded, LIBRARY, mind)
            alone = await work(recorded, LIBRARY)
            assert outcome(with_model) == outcome(alone), recorded.id
            assert all(fact.exists and fact.recomputes for fact in with_model.facts)
            assert 0 < mind.seconds <= SHORT_SECONDS + SLACK_SECONDS
    finally:
        await model.close()


async def test_functions_that_it_ignores_become_json_by_their_schema(llama: str) -> None:
    """llama.cpp takes `tools` and `tool_choice`; this model's template leaves them out."""
    model = Model(replace(settings(llama, PATIENT_SECONDS), max_calls=8, max_answer_tokens=200))
    form = strict_function(
        "submit_colour",
        "Submit a colour.",
        {"type": "object", "properties": {"colour": {"type": "string", "enum": ["red", "green"]}}},
    )
    budget, asked = model.budget("colour"), 0
    try:
        while model.manners.functions:
            asked += 1
            ignored = await model.ask([SAY_HI], [form], budget, "submit_colour")
            assert not ignored.calls
        said = await model.ask([SAY_HI], [form], budget, "submit_colour")
    finally:
        await model.close()
    assert asked >= UNHEEDED
    assert json.loads(said.text)["colour"] in ("red", "green")


async def test_chat_answers_whatever_the_model_says(llama: str) -> None:
    model = Model(settings(llama, SHORT_SECONDS))
    incident, evidence = await diagnose(FIRST, LIBRARY)
    ledger = MemoryLedger()
    try:
        async with asyncio.timeout(SHORT_SECONDS + 30):
            said = await answer(
                "Could the deployment on Monday have to do with it?",
                incident=incident,
                evidence=evidence,
                library=LIBRARY,
                model=model,
                ledger=ledger,
            )
    finally:
        await model.close()
    assert ledger.exchanges  # the model was asked
    assert said.answer
