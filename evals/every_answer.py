"""Every answer a model could give about an incident, arbitrated: which of them change ours.

Without a model or a prompt, so it is complete where scripts are samples: each cause of the
catalogue, `no-incident` and `unknown`, as surely as can be said, and somebody to blame or nobody.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from agent.arbitration import arbitrate
from agent.claims import NO_INCIDENT, UNCATALOGUED
from agent.incident import Culprit, Diagnosis
from agent.rules import rank, said
from agent.run import investigate
from agent.runbook import Library
from agent.signals import detect
from agent.standing import standing_of
from evals.result import same_culprit
from evals.run import opened
from evals.truth import RecordedIncident, Truth

CULPRITS = (Culprit(), Culprit(kind="client", name="bystander"))


@dataclass(frozen=True)
class Answer:
    """What became of one answer."""

    incident: str
    said: str
    """The cause that was named."""
    changed: bool
    """Ours is another one for it: its cause, its culprit, or whether it is an incident."""
    right: bool
    """Cause and culprit as they stand in the end."""


async def every_answer(recorded: RecordedIncident, library: Library) -> list[Answer]:
    """Every answer about this incident. The rules are asked once."""
    context = opened(recorded, library)
    incident = await investigate(context, await context.journal.incident())
    signals = detect(await context.journal.evidence())
    ranked = rank(signals, library, said(incident))
    rules = incident.diagnosis
    if rules is None:
        raise ValueError(f"{recorded.id}: the rules gave no diagnosis")
    answers = []
    for claimed in _claims(library):
        standing = standing_of(claimed.root_cause, rules.root_cause, signals, ranked, library)
        end = arbitrate(rules, claimed, standing)
        changed = _told(end) != _told(rules)
        right = _is_right(end, recorded.truth)
        answers.append(Answer(recorded.id, claimed.root_cause, changed, right))
    return answers


def _claims(library: Library) -> Iterator[Diagnosis]:
    titles = {cause.id: cause.title for cause in library.causes().values()} | UNCATALOGUED
    kinds = {cause.id: cause.kind for cause in library.causes().values()}
    for cause, title in titles.items():
        quiet = cause == NO_INCIDENT or kinds.get(cause) == "not_incident"
        for culprit in CULPRITS:
            yield Diagnosis(
                root_cause=cause,
                title=title,
                is_incident=not quiet,
                confidence=1.0,
                summary=title,
                culprit=culprit,
                reasoner="openai:any",
            )


def _told(diagnosis: Diagnosis) -> tuple[str, Culprit, bool]:
    return diagnosis.root_cause, diagnosis.culprit, diagnosis.is_incident


def _is_right(end: Diagnosis, truth: Truth) -> bool:
    named = not truth.culprit or same_culprit(end.culprit, truth.culprit)
    return end.root_cause in truth.root_cause and named
