"""An Inspect task over the recorded incidents, so that models can be compared in its log viewer.

    inspect eval evals/inspect_task.py@incidents -T reasoner=rules --model mockllm/model
    inspect eval evals/inspect_task.py@incidents --model openai/NAME --model-base-url URL
    inspect eval evals/inspect_task.py@incidents -T reasoner=openai-alone --model openai/NAME

The incidents, the work on them and the scoring are those of `redis-oncall evals run`. Models are
asked by our own client, at the endpoint of Inspect's model: it has to speak OpenAI's protocol.
This is the only module that imports Inspect.
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from inspect_ai import Task, task
from inspect_ai.dataset import Sample
from inspect_ai.log import transcript
from inspect_ai.model import ChatMessageAssistant, ModelOutput, get_model
from inspect_ai.model import Model as InspectModel
from inspect_ai.scorer import Score, Scorer, Target, accuracy, mean, scorer, stderr
from inspect_ai.solver import Generate, Solver, TaskState, solver

from agent.budget import ModelSettings
from agent.claims import UNKNOWN
from agent.incident import Claim
from agent.model import Model
from agent.runbook import Library
from agent.runbook_library import load_library
from evals.run import guarded, work
from evals.score import Result
from evals.suite import MODEL_REASONERS, REASONERS, RULES
from evals.truth import INCIDENTS, RecordedIncident
from evals.truth import incidents as recorded_incidents
from tools import recording_file

OPENAI = "openai"
_JUDGED = "judged"
LONGEST_EVIDENCE = 20_000
"""Characters of one reading in the transcript."""


@task
def incidents(reasoner: str = OPENAI, only: str = "*", directory: str = "") -> Task:
    """The suite. `only`: a glob over incident ids; `directory`: recordings elsewhere (absolute)."""
    if reasoner not in REASONERS:
        raise ValueError(f"reasoner: '{reasoner}' is not one of {', '.join(REASONERS)}")
    chosen = recorded_incidents(only, Path(directory) if directory else INCIDENTS)
    if not chosen:
        raise ValueError(f"no recorded incident matches '{only}' in {directory or INCIDENTS}")
    return Task(
        dataset=[_sample(one) for one in chosen],
        solver=oncall(reasoner, chosen),
        scorer=diagnosis(),
    )


def _sample(one: RecordedIncident) -> Sample:
    alert = recording_file.read(one.recording).header.alert or {}
    about = ("kind", "build", "fault", "seed", "fixture", "is_incident")
    return Sample(
        id=one.id,
        input=json.dumps(alert, indent=2, ensure_ascii=False),
        target=one.truth.root_cause,
        metadata=one.truth.model_dump(mode="json", include=set(about))
        | {"held_back": one.held_back},
    )


@solver
def oncall(reasoner: str, chosen: Sequence[RecordedIncident]) -> Solver:
    """Work the incident as `reasoner` and show how; what came of it is kept for the scorer."""
    library = load_library()
    by_id = {one.id: one for one in chosen}

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        result = await _worked(reasoner, by_id[str(state.sample_id)], library)
        _show(result)
        text = _told(result)
        state.messages.append(ChatMessageAssistant(content=text))
        state.output = ModelOutput.from_content(str(state.model), text)
        state.store.set(_JUDGED, _judged(result))
        return state

    return solve


async def _worked(reasoner: str, recorded: RecordedIncident, library: Library) -> Result:
    if reasoner == RULES:
        return await work(recorded, library)
    model = Model(endpoint(get_model()))  # one for each sample: its budget is one incident's
    try:
        return await guarded(recorded, MODEL_REASONERS[reasoner](recorded, model, library))
    finally:
        await model.close()


def endpoint(model: InspectModel) -> ModelSettings:
    """Where Inspect's model is, for our own client. Raises ValueError if it has no such client."""
    client = getattr(model.api, "client", None)
    base_url, key = getattr(client, "base_url", None), getattr(client, "api_key", None)
    if base_url is None or not isinstance(key, str):
        raise ValueError(
            f"{model} speaks no OpenAI protocol: use openai/NAME with --model-base-url, "
            f"openai-api/PROVIDER/NAME, or -T reasoner={RULES}"
        )
    named = getattr(model.api, "service_model_name", None)
    return ModelSettings(
        model=str(named() if named else model.name), api_key=key, base_url=str(base_url)
    )


# -- what the log viewer shows --------------------------------------------------------------


def _show(result: Result) -> None:
    """Evidence, then the diagnosis, into the transcript."""
    for piece in result.evidence:
        reading = json.dumps(piece.reading, ensure_ascii=False)
        whole = len(reading) <= LONGEST_EVIDENCE
        shown: dict[str, Any] = {
            "args": piece.args,
            "measured": piece.measured,
            "summary": piece.summary,
            "reading": piece.reading if whole else reading[:LONGEST_EVIDENCE] + "…",
        }
        transcript().info(shown, source=f"{piece.id} {piece.tool}")
    if result.diagnosis is not None:
        transcript().info(result.diagnosis.model_dump(mode="json"), source="diagnosis")
    for action in result.actions:
        shown = action.model_dump(mode="json", include={"kind", "risk", "commands", "executable"})
        transcript().info(shown, source=f"{action.id} {action.title}")


def _told(result: Result) -> str:
    """The answer as Markdown: diagnosis, claims with their facts, plan."""
    found = result.diagnosis
    if found is None:
        return f"**failed**: {result.failure}"
    who = f"{found.culprit.kind} `{found.culprit.name}`" if found.culprit.name else "none"
    lines = [
        f"**{found.root_cause}** ({found.confidence:.0%}, by {found.reasoner})",
        "",
        found.summary,
        "",
        f"Culprit: {who}. Contributing: {', '.join(found.contributing) or 'nothing'}.",
        "",
        *(line for claim in found.claims for line in _claim(claim)),
    ]
    if found.overruled:
        lines += ["", f"Overruled: {found.overruled.root_cause}: {found.overruled.reason}"]
    lines += ["", *(f"- {a.id} ({a.risk}) {a.title}" for a in result.actions)]
    return "\n".join(lines)


def _claim(claim: Claim) -> list[str]:
    facts = (
        f"  - `{fact.name}` = {fact.value} ({fact.op} of {fact.evidence} {', '.join(fact.of)})"
        for fact in claim.facts
    )
    return [f"- {claim.text}", *facts]


# -- scores ---------------------------------------------------------------------------------


@scorer(
    metrics={
        "root_cause": [accuracy(), stderr()],
        "culprit": [accuracy(), stderr()],
        "contributing": [accuracy(), stderr()],
        "false_positive": [mean(), stderr()],
        "abstained": [mean(), stderr()],
        "remedied": [mean(), stderr()],
        "harmful": [mean()],
        "harmful_advice": [mean()],
        "brier": [mean()],
        "evidence": [mean(), stderr()],
        "hallucinated": [mean()],
        "llm_calls": [mean()],
        "tokens": [mean()],
    }
)
def diagnosis() -> Scorer:
    """The measures of `evals run` that a single incident has.

    What does not apply to an incident is left out of its mean: false_positive where there is an
    incident, abstained (said `unknown`) where the cause can be known, remedied (something that
    helps was proposed for every cause) where nothing is wrong. evidence is the share of its facts
    that recompute; harmful, harmful_advice and hallucinated count.
    """

    async def score(state: TaskState, target: Target) -> Score:
        judged = state.store.get(_JUDGED)
        return Score(
            value={
                name: math.nan if value is None else value
                for name, value in judged["value"].items()
            },
            answer=judged["got"],
            explanation=judged["why"],
            metadata={"confidence": judged["confidence"]},
        )

    return score


def _judged(result: Result) -> dict[str, Any]:
    """What the scorer reads: JSON, since it is kept in the log. None: does not apply."""
    facts = result.facts
    return {
        "got": result.got,
        "why": result.failure or "; ".join(result.harm) or _told(result),
        "confidence": result.confidence,
        "value": {
            "root_cause": int(result.right),
            "culprit": int(result.culprit_right) if result.truth.culprit else None,
            "contributing": int(
                result.diagnosis is not None and not result.stray and not result.overlooked
            ),
            "false_positive": None if result.truth.is_incident else int(result.false_positive),
            "abstained": int(result.got == UNKNOWN) if result.unknowable else None,
            "remedied": int(not result.missing) if result.truth.is_incident else None,
            "harmful": len(result.harm),
            "harmful_advice": len(result.harmful_advice),
            "brier": (result.confidence - result.right) ** 2,
            "evidence": sum(f.recomputes for f in facts) / len(facts) if facts else None,
            "hallucinated": sum(not fact.exists for fact in facts),
            "llm_calls": result.usage.llm_calls,
            "tokens": result.usage.input_tokens + result.usage.output_tokens,
        },
    }
